"""Figures for people. In: what was measured; out: SVG files. It must not know how it was measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")  # needs no screen

from matplotlib import pyplot as plt


def draw_reliability(curves: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Reliability curves as `Evaluation.honesty` has them, one a name, to an SVG file at `path`.

    The share that is right over the confidence; the area of a dot is its share of the captions.
    """
    # The same numbers make the same file, so that a repository sees when they change.
    with mpl.rc_context({"svg.hashsalt": "wordlight", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
        for name, curve in curves.items():
            total = sum(bin_["captions"] for bin_ in curve)
            x, y = [bin_["confidence"] for bin_ in curve], [bin_["right"] for bin_ in curve]
            (line,) = axes.plot(x, y, linewidth=1.2, label=name)
            axes.scatter(x, y, s=[200 * bin_["captions"] / total for bin_ in curve], color=line.get_color(), alpha=0.6)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share as good as people's", aspect="equal")
        axes.legend(frameon=False, loc="upper left")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
