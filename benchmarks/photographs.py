"""Pictures to caption in benchmarks: your photographs, or generated ones."""

import io
import itertools
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.training.dataset import load_split

_SIZE = (500, 375)  # pixels; Flickr's usual size
_QUALITY = 85
_JPEG = {".jpg", ".jpeg"}
_MARK = 16  # pixels; side of the square that makes a photograph unique


@dataclass(frozen=True, slots=True)
class Photograph:
    """A JPEG file with its reference captions, if there are any."""

    name: str
    encoded: bytes
    captions: list[str]

    def image(self) -> Image.Image:
        """Decode the image to RGB."""
        return Image.open(io.BytesIO(self.encoded)).convert("RGB")


def photographs(data: Path | None, count: int) -> list[Photograph]:
    """Return the first `count` pictures: of a data set's split val, or of the JPEG files in a folder and its tar files.

    Without `data` the pictures are generated. Raises DatasetUnusable for a folder that has neither.
    """
    if data is None:
        return [Photograph(f"generated-{seed}.jpg", encoded(generated(seed)), []) for seed in range(count)]
    if not any(data.glob("captions.json")) and (found := list(itertools.islice(_files(data), count))):
        return [Photograph(name, content, []) for name, content in found]
    return [Photograph(sample.name, sample.encoded, sample.captions) for sample in load_split(data, "val")[:count]]


def unique_photographs(folder: Path | None = None) -> Iterator[bytes]:
    """Yield JPEG files without end, all different, so that the service never answers from its cache.

    Raises FileNotFoundError for a folder without JPEG files. When a photograph comes again, a small square in its
    corner has another colour. Without a folder the pictures are generated.
    """
    if folder is None:
        yield from (encoded(generated(number)) for number in itertools.count())
    else:
        found = [content for _, content in _files(folder)]
        if not found:
            raise FileNotFoundError(f"no JPEG files in {folder}")
        for number in itertools.count():
            yield _marked(found[number % len(found)], number)


def small_pictures() -> Iterator[bytes]:
    """Yield JPEG files without end, all different, that take almost no time to decode."""
    for number in itertools.count():
        image = Image.new("RGB", (64, 48), (90, 120, 60))
        for place in range(3):
            # One grey block for each byte of the number: large enough for JPEG to keep it.
            value = number >> 8 * place & 255
            image.paste((value, value, value), (16 * place, 0, 16 * (place + 1), 16))
        yield encoded(image)


def generated(seed: int) -> Image.Image:
    """Return blurred colours with noise; its JPEG file is about as large as a photograph's."""
    dice = np.random.default_rng(seed)
    width, height = _SIZE
    blotches = Image.fromarray(dice.integers(0, 256, (height // 25, width // 25, 3), dtype=np.uint8))
    smooth = np.asarray(blotches.resize(_SIZE, Image.Resampling.BICUBIC), dtype=np.int16)
    return Image.fromarray((smooth + dice.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image) -> bytes:
    """Encode as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the JPEG files in `folder`, its subfolders and their tar files."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _JPEG:
            yield path.name, path.read_bytes()
        elif path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    if Path(member.name).suffix.lower() in _JPEG and (file := archive.extractfile(member)):
                        yield member.name, file.read()


def _marked(data: bytes, number: int) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.paste(tuple((number * 97 >> 8 * place) % 256 for place in range(3)), (0, 0, _MARK, _MARK))
    return encoded(image)
