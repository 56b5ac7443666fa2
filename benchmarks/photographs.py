"""The pictures that are captioned in benchmarks: somebody's, or made on the spot. Out: JPEG files in memory.

It must not know what is done with them.
"""

import io
import itertools
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model.training.dataset import load_split

_SIZE = (500, 375)  # pixels: as Flickr shows photographs
_QUALITY = 85
_JPEG = {".jpg", ".jpeg"}


@dataclass(frozen=True, slots=True)
class Photograph:
    """One file, and what people say of it, if anybody has said anything."""

    name: str
    encoded: bytes
    captions: list[str]

    def image(self) -> Image.Image:
        """The decoded image, RGB."""
        return Image.open(io.BytesIO(self.encoded)).convert("RGB")


def photographs(data: Path | None, count: int) -> list[Photograph]:
    """The first `count` of a data set's split val or, of another folder, of the JPEG files in it or in its tar files.

    Without `data`, as many are made. Raises DatasetUnusable for a folder that has neither.
    """
    if data is None:
        return [Photograph(f"made-{seed}.jpg", encoded(made(seed)), []) for seed in range(count)]
    if not any(data.glob("captions.json")) and (found := list(itertools.islice(files(data), count))):
        return [Photograph(name, data_of_file, []) for name, data_of_file in found]
    return [Photograph(sample.name, sample.encoded, sample.captions) for sample in load_split(data, "val")[:count]]


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The JPEG files in `folder` and the folders in it, and those in tar files there, by name."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _JPEG:
            yield path.name, path.read_bytes()
        elif path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    if Path(member.name).suffix.lower() in _JPEG and (file := archive.extractfile(member)):
                        yield member.name, file.read()


def made(seed: int) -> Image.Image:
    """Blotches of colour under a little grain: a JPEG file of it has about as many bytes as a photograph's."""
    dice = np.random.default_rng(seed)
    width, height = _SIZE
    blotches = Image.fromarray(dice.integers(0, 256, (height // 25, width // 25, 3), dtype=np.uint8))
    smooth = np.asarray(blotches.resize(_SIZE, Image.Resampling.BICUBIC), dtype=np.int16)
    return Image.fromarray((smooth + dice.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image) -> bytes:
    """As a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
