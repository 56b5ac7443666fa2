"""Photographs to send, no two alike, so that no answer is a remembered one.

In: perhaps a folder of real ones; out: JPEG files as bytes. Without a folder they are made.
"""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

from photographs import encoded, files, made
from PIL import Image

_MARK = 16  # pixels: the side of the square that makes a real photograph one of a kind


def photographs(folder: Path | None = None, seed: int = 0) -> Iterator[bytes]:
    """For ever; made ones differ with `seed`. Raises FileNotFoundError for a folder without any JPEG, loose or in tars.

    Where real ones come again, another square in a corner tells them apart.
    """
    if folder is None:
        yield from (encoded(made(seed * 1_000_003 + number)) for number in itertools.count())
    else:
        found = [data for _, data in files(folder)]
        if not found:
            raise FileNotFoundError(f"no JPEG files in {folder}")
        for number in itertools.count():
            yield _marked(found[number % len(found)], seed * 1_000_003 + number)


def small_photographs() -> Iterator[bytes]:
    """For ever: so small that decoding is next to nothing. No two are alike."""
    for number in itertools.count():
        corner = tuple(number >> 8 * place & 255 for place in range(3))
        image = Image.new("RGB", (64, 48), (90, 120, 60))
        for place, value in enumerate(corner):  # far enough apart that JPEG keeps each
            image.paste((value, value, value), (16 * place, 0, 16 * (place + 1), 16))
        yield encoded(image)


def _marked(data: bytes, number: int) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.paste(tuple((number * 97 >> 8 * place) % 256 for place in range(3)), (0, 0, _MARK, _MARK))
    return encoded(image)
