"""Photographs to send, no two alike, so that no answer is a remembered one.

In: perhaps a folder of real ones; out: JPEG files as bytes. Without a folder they are made: soft shapes in all colours
under a little noise, which take as long to decode as a photograph of their size, and compress as badly.
"""

import io
import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

_SIZE = (640, 480)
_QUALITY = 85
_MARK = 16  # pixels: the side of the square that makes a real photograph one of a kind


def photographs(folder: Path | None = None, seed: int = 0) -> Iterator[bytes]:
    """For ever; made ones differ with `seed`. Raises FileNotFoundError for a folder without any JPEG, loose or in tars.

    Where real ones come again, another square in a corner tells them apart.
    """
    if folder is None:
        yield from (_made(np.random.default_rng((seed, number))) for number in itertools.count())
    else:
        files = list(_files(folder))
        if not files:
            raise FileNotFoundError(f"no JPEG files in {folder}")
        for number in itertools.count():
            yield _marked(files[number % len(files)], seed * 1_000_003 + number)


def small_photographs() -> Iterator[bytes]:
    """For ever: so small that decoding is next to nothing. No two are alike."""
    for number in itertools.count():
        corner = tuple(number >> 8 * place & 255 for place in range(3))
        image = Image.new("RGB", (64, 48), (90, 120, 60))
        for place, value in enumerate(corner):  # far enough apart that JPEG keeps each
            image.paste((value, value, value), (16 * place, 0, 16 * (place + 1), 16))
        yield _encoded(image)


def _made(dice: np.random.Generator) -> bytes:
    width, height = _SIZE
    soft = Image.fromarray(dice.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(_SIZE, Image.Resampling.BICUBIC)
    noise = dice.normal(0, 6, (height, width, 1))
    pixels = np.clip(np.asarray(soft, dtype=np.float32) + noise, 0, 255).astype(np.uint8)
    return _encoded(Image.fromarray(pixels))


def _marked(data: bytes, number: int) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.paste(tuple((number * 97 >> 8 * place) % 256 for place in range(3)), (0, 0, _MARK, _MARK))
    return _encoded(image)


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _files(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg"):
            yield path.read_bytes()
        elif path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.name.lower().endswith((".jpg", ".jpeg")) and (file := archive.extractfile(member)):
                        yield file.read()
