"""Reports for people: tables as text, and the figure of reliability curves."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_DIGITS = 4


def rounded(scores: Any) -> Any:
    """Round all numbers to the digits that mean something."""
    if isinstance(scores, float):
        return round(scores, _DIGITS)
    if isinstance(scores, Mapping):
        return {name: rounded(value) for name, value in scores.items()}
    if isinstance(scores, list):
        return [rounded(value) for value in scores]
    return scores


def format_table(scores: Mapping[str, Any]) -> str:
    """Format one number per line. Rows with the same columns become a matrix. Lists are left out."""
    return "\n".join(_lines(scores)).strip("\n")


def _lines(scores: Mapping[str, Any]) -> Iterator[str]:
    groups = {name: value for name, value in scores.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in scores.items() if name not in groups and not isinstance(value, list)}
    widest = max(map(len, plain), default=0)
    yield from (f"{name:<{widest}}  {_show(value):>10}" for name, value in plain.items())
    for name, group in groups.items():
        if all(isinstance(value, list) for value in group.values()):
            continue
        yield ""
        yield name
        yield from _matrix(group) if _is_matrix(group) else (f"  {line}".rstrip() for line in _lines(group))


def _is_matrix(group: Mapping[str, Any]) -> bool:
    return all(
        isinstance(row, Mapping) and not any(isinstance(value, Mapping | list) for value in row.values())
        for row in group.values()
    )


def _matrix(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Format a matrix. A few long rows become columns, so that lines stay short."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    if len(columns) > len(rows):
        rows = {column: {name: row.get(column, "") for name, row in rows.items()} for column in columns}
        columns = list(next(iter(rows.values())))
    first = max(map(len, rows))
    widths = [max(10, len(column)) for column in columns]
    yield "  " + " " * first + "".join(f"  {column:>{width}}" for column, width in zip(columns, widths, strict=True))
    for name, row in rows.items():
        cells = (f"  {_show(row.get(column, '')):>{width}}" for column, width in zip(columns, widths, strict=True))
        yield f"  {name:<{first}}" + "".join(cells)


def _show(value: Any) -> str:
    return f"{value:.{_DIGITS}f}" if isinstance(value, float) else str(value)


def draw_reliability(curves: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Draw reliability curves, as `Evaluation.honesty` returns them, to an SVG file.

    They show the share of right captions over the confidence. The area of a dot is its share of the captions.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # The hash salt makes equal numbers give an equal file, so git shows when they change.
    with rc_context({"svg.hashsalt": "wordlight", "font.size": 9}):
        figure = Figure(figsize=(4.2, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
        for name, curve in curves.items():
            total = sum(bin_["captions"] for bin_ in curve)
            x, y = [bin_["confidence"] for bin_ in curve], [bin_["right"] for bin_ in curve]
            (line,) = axes.plot(x, y, linewidth=1.2, label=name)
            axes.scatter(x, y, s=[200 * bin_["captions"] / total for bin_ in curve], color=line.get_color(), alpha=0.6)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share as good as people's", aspect="equal")
        axes.legend(frameon=False, loc="upper left")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})
