"""Grounding: does a word's heatmap fall on what the word names?

For every word that names a class with a box in the picture there are two measures: the pointing game (Zhang et al.,
2016: is the centre of the strongest cell in a box of that class?), and the share of the heatmap that
lies in the union of those boxes, relative to the union's area. A uniform map and the picture's centre are the baselines
that need no image.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from model.decoding.caption import Caption, WordMap
from model.evaluation.coco_dev import Box, Photograph
from model.evaluation.coco_mentions import mentions

Grid = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Looked:
    """The measures of one word's attention. Each is a share, or 0 or 1."""

    pointing: float
    mass: float
    area: float
    uniform_pointing: float
    centre_pointing: float


def grounding(captioned: Iterable[tuple[Photograph, Caption]], *, largest: bool = False) -> dict[str, float]:
    """Compute the means over all such words, their number, and the ratio of mean mass to mean area.

    With `largest`, only the largest box of the named class counts. That is a harder question, and the wrong one for
    "dogs".
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
            yield looked(caption.words[mention.position].heatmap, boxes)


def looked(heatmap: WordMap, boxes: list[Box]) -> Looked:
    """Measure one word's heatmap against the boxes of what it names."""
    grid = grid_of(heatmap)
    inside = coverage(boxes, *grid.shape)
    row, col = np.unravel_index(int(grid.argmax()), grid.shape)
    return Looked(
        pointing=float(_hits(boxes, (col + 0.5) / heatmap.cols, (row + 0.5) / heatmap.rows)),
        mass=float((grid * inside).sum() / grid.sum()),
        area=float(inside.mean()),
        uniform_pointing=float(_centres_inside(boxes, *grid.shape).mean()),
        centre_pointing=float(_hits(boxes, 0.5, 0.5)),
    )


def grid_of(word_map: WordMap) -> Grid:
    """Return the weights as an array (rows, cols)."""
    return np.array(word_map.weights).reshape(word_map.rows, word_map.cols)


def coverage(boxes: Sequence[Box], rows: int, cols: int) -> Grid:
    """Compute the exact share of each cell that the union of the boxes covers: (rows, cols). The mean is its area.

    The edges of boxes and cells cut the picture into rectangles, each of which is either inside or outside.
    """
    xs = _cuts([edge for box in boxes for edge in (box.left, box.right)], cols)
    ys = _cuts([edge for box in boxes for edge in (box.top, box.bottom)], rows)
    mid_x, mid_y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
    inside = np.zeros((len(mid_y), len(mid_x)), dtype=bool)
    for box in boxes:
        inside |= np.outer((box.top <= mid_y) & (mid_y <= box.bottom), (box.left <= mid_x) & (mid_x <= box.right))
    areas = np.outer(np.diff(ys), np.diff(xs)) * inside
    cells = np.zeros((rows, cols))
    np.add.at(cells, np.ix_((mid_y * rows).astype(int), (mid_x * cols).astype(int)), areas)
    return cells * rows * cols


def _cuts(edges: Sequence[float], cells: int) -> Grid:
    return np.unique(np.concatenate([np.clip(edges, 0, 1), np.linspace(0, 1, cells + 1)]))


def _centres_inside(boxes: Sequence[Box], rows: int, cols: int) -> Grid:
    """Return 1 for each cell whose centre is in a box, else 0: (rows, cols)."""
    return np.array(
        [[_hits(boxes, (col + 0.5) / cols, (row + 0.5) / rows) for col in range(cols)] for row in range(rows)],
        dtype=float,
    )


def _hits(boxes: Sequence[Box], x: float, y: float) -> bool:
    """Return whether the point is in any of the boxes."""
    return any(box.holds(x, y) for box in boxes)
