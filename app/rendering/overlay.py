"""An overlay: the upright working image with the heatmap of one word over it, as a PNG.

In: the working image and a heatmap. Out: PNG bytes that look like the page while nobody has touched its
controls (app/static/js/view/heatmap.js): same colours, same strength, same scale. Pure functions; they must not know
captions, jobs or HTTP.
"""

import io
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.rendering.inferno import INFERNO
from jobs.job import WordMap

_STRENGTH: Final = 0.65  # how much of the photograph the strongest heat covers
_FLOOR: Final = 0.6  # where nothing was read the heat still lies this strongly, else low values would look like none
_PAINT: Final = bytes(
    channel
    for entry, colour in enumerate(INFERNO)
    for channel in (*colour, round(255 * _STRENGTH * (_FLOOR + (1 - _FLOOR) * entry / 255)))
)
_COMPRESSION: Final = 3  # of zlib; its default, 6, takes three times as long to save little


def word_overlay(working_image: bytes, heatmap: WordMap, scale: float | None = None, description: str = "") -> bytes:
    """The PNG of a word, as many pixels as the working image has.

    `scale` is the weight at the top of the colour scale (greater ones look the same); None is the map's own peak.
    `description` becomes the PNG's only metadata. Raises what Pillow raises if `working_image` is no JPEG.
    """
    picture = open_working_image(working_image)
    lay_over(picture, heatmap, peak(heatmap) if scale is None else scale)
    return to_png(picture, description)


def peak(heatmap: WordMap) -> float:
    """The weight of the strongest cell."""
    return max(heatmap.weights, default=0.0)


def lay_over(picture: Image.Image, heatmap: WordMap, top: float) -> None:
    """Paints a heatmap over the whole of an RGB picture; `top` is the weight at the top of the colour scale.

    Cell centres keep their places, (r + ½)/rows of the height; between them weights run straight, and beyond the
    last centre the edge holds. Where a pixel is larger than a cell, it takes the mean of what it covers.
    """
    steps = 255 / top if top > 0 else 0.0
    grid = Image.new("F", (heatmap.cols, heatmap.rows))
    # Half a step more, since the conversion to L cuts off what is behind the point.
    grid.putdata([weight * steps + 0.5 for weight in heatmap.weights])
    paint(picture, grid.resize(picture.size, Image.Resampling.BILINEAR).convert("L"))


def paint(picture: Image.Image, heat: Image.Image) -> None:
    """Paints heat over an RGB picture; `heat` is an L image of the same size, 255 at the top of the colour scale."""
    heat.putpalette(_PAINT, "RGBA")
    colours = heat.convert("RGBA")
    picture.paste(colours, mask=colours)


def open_working_image(data: bytes) -> Image.Image:
    """The picture in a working image, as RGB."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return image.convert("RGB")


def to_png(image: Image.Image, description: str) -> bytes:
    """Encodes an RGB image, with a description (if there is one) and no other metadata."""
    text = PngInfo()
    if description:
        text.add_text("Description", printable(description))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=text, compress_level=_COMPRESSION)
    return file.getvalue()


def printable(text: str) -> str:
    """The text on one line: line breaks, control characters and what cannot be encoded become spaces."""
    return "".join(character if character.isprintable() else " " for character in text)
