"""Boxes around things, and what of a word's map lies in them. In: boxes and grids; out: numbers.

All edges are fractions of the picture's width and height. It must not know of words or classes' synonyms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.caption import WordMap

Grid = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle around one thing of the class `name`."""

    left: float
    top: float
    right: float
    bottom: float
    name: str

    @property
    def area(self) -> float:
        """As a fraction of the picture's."""
        return (self.right - self.left) * (self.bottom - self.top)

    def holds(self, x: float, y: float) -> bool:
        """Whether the point is in it."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom


def hits(boxes: Sequence[Box], x: float, y: float) -> bool:
    """Whether the point is in any of them."""
    return any(box.holds(x, y) for box in boxes)


def centres_inside(boxes: Sequence[Box], rows: int, cols: int) -> Grid:
    """1 where the centre of a cell is in a box, else 0: (rows, cols)."""
    return np.array(
        [[hits(boxes, (col + 0.5) / cols, (row + 0.5) / rows) for col in range(cols)] for row in range(rows)],
        dtype=float,
    )


def coverage(boxes: Sequence[Box], rows: int, cols: int) -> Grid:
    """The share of each cell that lies in the union of the boxes, exactly: (rows, cols). Its mean is the union's area.

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


def grid_of(word_map: WordMap) -> Grid:
    """The weights as (rows, cols)."""
    return np.array(word_map.weights).reshape(word_map.rows, word_map.cols)
