"""Whether attention falls on what a word names. In: photographs with boxes and captions of them; out: numbers.

For every word that names a class with a box in the picture: the pointing game (Zhang et al., 2016: does the centre of
the most attended cell fall in a box of that class?), and how much of the attention lies in the union of those boxes,
against the union's area. A uniform map and the picture's centre point are what a captioner without eyes would get. It
must not know of captioners: it sees captions alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from model.caption import Attention, Caption
from model.evaluation.boxes import Box, centres_inside, coverage, grid_of, hits
from model.evaluation.coco_dev import Photograph
from model.evaluation.coco_mentions import mentions


@dataclass(frozen=True, slots=True)
class Looked:
    """How one word looked at what it names: each is a share, or 0 or 1."""

    pointing: float
    mass: float
    area: float
    uniform_pointing: float
    centre_pointing: float


def looked(attention: Attention, boxes: list[Box]) -> Looked:
    """One word's attention against the boxes of what it names."""
    grid = grid_of(attention)
    inside = coverage(boxes, *grid.shape)
    row, col = np.unravel_index(int(grid.argmax()), grid.shape)
    return Looked(
        pointing=float(hits(boxes, (col + 0.5) / attention.cols, (row + 0.5) / attention.rows)),
        mass=float((grid * inside).sum() / grid.sum()),
        area=float(inside.mean()),
        uniform_pointing=float(centres_inside(boxes, *grid.shape).mean()),
        centre_pointing=float(hits(boxes, 0.5, 0.5)),
    )


def grounding(captioned: Iterable[tuple[Photograph, Caption]], *, largest: bool = False) -> dict[str, float]:
    """The means over all such words, their number, and the ratio of the mean mass to the mean area.

    With `largest`, a word is only at the largest of the boxes of what it names: a harder question, and the wrong one
    for "dogs".
    """
    found = [look for photograph, caption in captioned for look in _looks(photograph, caption, largest)]
    if not found:
        return {"words": 0}
    means = {field.name: float(np.mean([getattr(look, field.name) for look in found])) for field in fields(Looked)}
    return {"words": len(found), **means, "mass_over_area": means["mass"] / means["area"]}


def _looks(photograph: Photograph, caption: Caption, largest: bool) -> Iterator[Looked]:
    for mention in mentions([word.text for word in caption.words]):
        boxes = [box for box in photograph.boxes or () if box.name == mention.name]
        if largest and boxes:
            boxes = [max(boxes, key=lambda box: box.area)]
        if boxes:
            yield looked(caption.words[mention.position].attention, boxes)
