"""Draws a contact sheet: a caption and, for each word, a small picture with its heatmap, as in papers on attention.

A sheet is a PNG of at most 4096 pixels a side. Pillow's own font draws boxes for characters that it does not have.
"""

import math
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from PIL import Image, ImageDraw, ImageFont

from app.rendering.overlay import lay_over, open_working_image, paint, peak, printable, to_png
from jobs.job import Caption, Word, WordMap

Scale = Literal["word", "caption"]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MOST_WORDS: Final = 100
_MOST_CHARACTERS: Final = 2_000  # of one text; more would not fit, and measuring it takes time
_MOST_LINES: Final = 6

# The page's light colours.
_PAPER: Final = "#faf8f4"
_INK: Final = "#1d2026"
_SOFT: Final = "#585d66"
_BEHIND_SCALE: Final = "#a9a59c"  # a mid grey; the paint of the scale is translucent

# In pixels.
_PANEL_SIDE: Final = 264  # the longer side of a panel, if there are few
_PANELS_AREA: Final = 4_000_000  # of all panels, if they were square; many words make the panels smaller
_NARROWEST_CELL: Final = 170  # room for words under their pictures
_NARROWEST_SHEET: Final = 560
_MARGIN: Final = 40
_GAP: Final = 20
_LABEL: Final = 32  # height of the line under a panel
_TITLE_SIZE: Final = 32
_WORD_SIZE: Final = 19
_NOTE_SIZE: Final = 15
_SCALE_SIZE: Final = (168, 14)

_ASPECT: Final = 1.5  # preferred width / height of all panels together
_THINNEST: Final = 1 / 16  # of a panel's longer side; thinner strips are drawn thicker to be visible
_DIFFUSE_SHARE: Final = 0.75  # of the cells; the page uses the same share

_TRACE_NOTE: Final = "Attention shows where the model read features, not why it chose a word."
_DIFFUSE_NOTE: Final = "The heatmaps of grey words are nearly uniform and say little."
_FUNCTION_WORDS_NOTE: Final = "Words in brackets are function words, which name nothing visible."
_SCALE_NOTES: Final[dict[Scale, str]] = {
    "word": "Each word has its own colour scale, up to the peak beside it.",
    "caption": "All words share one colour scale; the peak of each is beside it.",
}


def contact_sheet(
    working_image: bytes, caption: Caption, scale: Scale = "word", function_words: Collection[str] = ()
) -> bytes:
    """Draw a caption: the sentence, the plain picture, a panel for each word, and a legend.

    With `scale` "word", each word's colour scale ends at its own strongest cell; with "caption", at the strongest cell
    of all words, which makes panels comparable. `function_words` are put in brackets. A word without a heatmap shows
    the plain picture. A sheet shows the first MOST_WORDS words and says so if there are more. Raises what Pillow raises
    if `working_image` is not a JPEG.
    """
    picture = open_working_image(working_image)
    words = caption.words[:MOST_WORDS]
    layout = _layout(len(words) + 1, picture.size)
    notes = [_SCALE_NOTES[scale], _TRACE_NOTE]
    if any(word.heatmap and _is_diffuse(word.heatmap) for word in words):
        notes.append(_DIFFUSE_NOTE)
    if any(word.text.lower() in function_words for word in words):
        notes.append(_FUNCTION_WORDS_NOTE)
    if len(words) < len(caption.words):
        notes.append(f"Only the first {len(words)} of {len(caption.words)} words are shown.")
    shared = highest(words) if scale == "caption" else None
    blocks = [
        (0, _text(caption.text, _TITLE_SIZE, _INK, layout.width)),
        (_GAP, _panels(picture, words, layout, shared, function_words)),
        (_GAP, _legend("peak" if shared is None else _percent(shared), layout.width)),
        *((0, _text(note, _NOTE_SIZE, _SOFT, layout.width)) for note in notes),
    ]
    return to_png(_stack(blocks), caption.text)


def highest(words: list[Word]) -> float:
    """The largest weight of all words."""
    return max((peak(word.heatmap) for word in words if word.heatmap), default=0.0)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes and positions of the panels, in pixels."""

    panel: tuple[int, int]
    columns: int
    rows: int

    @property
    def cell(self) -> tuple[int, int]:
        """Size of a panel with the line of its word, at least as wide as a word needs."""
        return max(self.panel[0], _NARROWEST_CELL), self.panel[1] + _LABEL

    @property
    def width(self) -> int:
        return max(self.columns * (self.cell[0] + _GAP) - _GAP, _NARROWEST_SHEET)

    @property
    def height(self) -> int:
        return self.rows * (self.cell[1] + _GAP) - _GAP

    def corner(self, index: int) -> tuple[int, int]:
        """The upper left corner of a panel."""
        row, column = divmod(index, self.columns)
        return column * (self.cell[0] + _GAP), row * (self.cell[1] + _GAP)


def _layout(count: int, picture: tuple[int, int]) -> _Layout:
    """Choose the panels' size, and a number of columns near the preferred aspect with few empty cells."""
    side = min(_PANEL_SIDE, math.isqrt(_PANELS_AREA // count))
    thinnest = max(1, round(side * _THINNEST))
    width, height = (max(thinnest, round(length * side / max(picture))) for length in picture)
    layouts = [_Layout((width, height), columns, math.ceil(count / columns)) for columns in range(1, count + 1)]

    def cost(layout: _Layout) -> float:
        empty = 1 - count / (layout.columns * layout.rows)
        return abs(math.log(layout.width / layout.height / _ASPECT)) + empty

    return min(layouts, key=cost)


def _panels(
    picture: Image.Image, words: list[Word], layout: _Layout, top: float | None, function_words: Collection[str]
) -> Image.Image:
    """Draw the plain picture, then one panel per word with the word and its peak below.

    `top` is the weight at the top of the colour scale; None means each word's own peak.
    """
    block = Image.new("RGB", (layout.width, layout.height), _PAPER)
    draw = ImageDraw.Draw(block)
    word_font, note_font = ImageFont.load_default(_WORD_SIZE), ImageFont.load_default(_NOTE_SIZE)
    plain = picture.resize(layout.panel, Image.Resampling.LANCZOS)
    block.paste(plain, layout.corner(0))
    for index, word in enumerate(words, start=1):
        panel, colour, share = plain.copy(), _INK, ""
        if word.heatmap:
            own = peak(word.heatmap)
            lay_over(panel, word.heatmap, own if top is None else top)
            colour = _SOFT if _is_diffuse(word.heatmap) else _INK
            share = _percent(own)
        left, upper = layout.corner(index)
        block.paste(panel, (left, upper))
        right, baseline = left + layout.cell[0], upper + layout.panel[1] + _LABEL - 9
        draw.text((right, baseline), share, _SOFT, note_font, anchor="rs")
        room = layout.cell[0] - note_font.getlength(share) - 8
        text = f"({word.text})" if word.text.lower() in function_words else word.text
        draw.text((left, baseline), _fitted(printable(text), word_font, room), colour, word_font, anchor="ls")
    return block


def _legend(top: str, width: int) -> Image.Image:
    """Draw the colour scale between 0 and `top`, in the paint of the heatmaps."""
    font = ImageFont.load_default(_NOTE_SIZE)
    bar = Image.new("RGB", _SCALE_SIZE, _BEHIND_SCALE)
    paint(bar, Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize(_SCALE_SIZE))
    block = Image.new("RGB", (width, _NOTE_SIZE + 12), _PAPER)
    draw = ImageDraw.Draw(block)
    baseline = _NOTE_SIZE + 1
    draw.text((0, baseline), "0", _SOFT, font, anchor="ls")
    left = round(font.getlength("0")) + 10
    block.paste(bar, (left, baseline - _SCALE_SIZE[1] + 1))
    draw.text((left + bar.width + 10, baseline), f"{top} of a word's heatmap, per cell", _SOFT, font, anchor="ls")
    return block


def _text(text: str, size: int, colour: str, width: int) -> Image.Image:
    """Draw text in lines of at most `width` pixels; an ellipsis marks what does not fit."""
    font = ImageFont.load_default(size)
    lines: list[str] = []
    for word in printable(text[:_MOST_CHARACTERS]).split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1 :] = [" ".join(lines[_MOST_LINES - 1 :])]
    step = round(size * 1.4)
    block = Image.new("RGB", (width, step * len(lines)), _PAPER)
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((0, number * step + size), _fitted(line, font, width), colour, font, anchor="ls")
    return block


def _fitted(text: str, font: _Font, width: float) -> str:
    """Shorten text, with an ellipsis, to fit into `width` pixels."""
    text = text[:_MOST_CHARACTERS]
    if font.getlength(text) <= width:
        return text
    kept = bisect_right(range(1, len(text)), width, key=lambda length: font.getlength(text[:length] + "…"))
    return text[:kept] + "…"


def _stack(blocks: list[tuple[int, Image.Image]]) -> Image.Image:
    """Stack blocks of equal width, each after a space in pixels."""
    width = blocks[0][1].width + 2 * _MARGIN
    height = sum(space + block.height for space, block in blocks) + 2 * _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    y = _MARGIN
    for space, block in blocks:
        sheet.paste(block, (_MARGIN, y + space))
        y += space + block.height
    return sheet


def _is_diffuse(heatmap: WordMap) -> bool:
    """Tell whether a heatmap is nearly uniform: the exponential of its entropy is an effective number of cells."""
    entropy = -sum(weight * math.log(weight) for weight in heatmap.weights if weight > 0)
    return math.exp(entropy) > _DIFFUSE_SHARE * len(heatmap.weights)


def _percent(weight: float) -> str:
    return f"{weight:.1%}" if weight < 0.1 else f"{weight:.0%}"
