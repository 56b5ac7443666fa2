"""Draws the heatmap of one word over the working image and returns a PNG.

The result looks like the page with its default controls: same colours, strength and scale.
"""

import io
import json
from pathlib import Path
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jobs.job import WordMap

# The colour map: matplotlib's inferno. The page reads the same file.
INFERNO: Final = tuple(
    tuple(bytes.fromhex(colour.removeprefix("#")))
    for colour in json.loads((Path(__file__).parent.parent / "static" / "inferno.json").read_text())
)
_STRENGTH: Final = 0.65  # how much of the photograph the strongest heat covers
_FLOOR: Final = 0.6  # the share of the strength at weight 0, so that low weights stay visible
_PAINT: Final = bytes(
    channel
    for entry, colour in enumerate(INFERNO)
    for channel in (*colour, round(255 * _STRENGTH * (_FLOOR + (1 - _FLOOR) * entry / 255)))
)
_COMPRESSION: Final = 3  # of zlib; the default, 6, takes three times as long for little gain


def word_overlay(working_image: bytes, heatmap: WordMap, scale: float | None = None, description: str = "") -> bytes:
    """Draw one word's heatmap as a PNG of the size of the working image.

    `scale` is the weight at the top of the colour scale (greater ones look the same); None is the map's own peak.
    `description` becomes the PNG's only metadata. Raises what Pillow raises if `working_image` is not a JPEG.
    """
    picture = open_working_image(working_image)
    lay_over(picture, heatmap, peak(heatmap) if scale is None else scale)
    return to_png(picture, description)


def peak(heatmap: WordMap) -> float:
    """The largest weight of all cells."""
    return max(heatmap.weights, default=0.0)


def lay_over(picture: Image.Image, heatmap: WordMap, top: float) -> None:
    """Paint the grid over an RGB picture; `top` is the weight at the top of the colour scale.

    Weights belong to cell centres, at (r + ½)/rows of the height. They are interpolated linearly between centres and
    constant beyond the outermost ones. A pixel larger than a cell takes the mean of the cells that it covers.
    """
    steps = 255 / top if top > 0 else 0.0
    grid = Image.new("F", (heatmap.cols, heatmap.rows))
    # The conversion to L truncates, so half a step is added for rounding.
    grid.putdata([weight * steps + 0.5 for weight in heatmap.weights])
    paint(picture, grid.resize(picture.size, Image.Resampling.BILINEAR).convert("L"))


def paint(picture: Image.Image, heat: Image.Image) -> None:
    """Paint heat over an RGB picture; `heat` is an L image of the same size, 255 at the top of the colour scale."""
    heat.putpalette(_PAINT, "RGBA")
    colours = heat.convert("RGBA")
    picture.paste(colours, mask=colours)


def open_working_image(data: bytes) -> Image.Image:
    """Decode a working image as RGB."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return image.convert("RGB")


def to_png(image: Image.Image, description: str) -> bytes:
    """Encode an RGB image, with an optional description and no other metadata."""
    text = PngInfo()
    if description:
        text.add_text("Description", printable(description))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=text, compress_level=_COMPRESSION)
    return file.getvalue()


def printable(text: str) -> str:
    """Replace line breaks, control characters and lone surrogates by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)
