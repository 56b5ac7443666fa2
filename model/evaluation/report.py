"""Measurements for people: lines of names and numbers. In: plain data; out: text. It must not know what it shows."""

from collections.abc import Iterator, Mapping
from typing import Any

_DIGITS = 4


def rounded(scores: Any) -> Any:
    """The same data with no more digits than mean anything."""
    if isinstance(scores, float):
        return round(scores, _DIGITS)
    if isinstance(scores, Mapping):
        return {name: rounded(value) for name, value in scores.items()}
    if isinstance(scores, list):
        return [rounded(value) for value in scores]
    return scores


def format_table(scores: Mapping[str, Any]) -> str:
    """One number a line; rows that have the same columns become a matrix; lists are left to programs."""
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
    """Rows become columns where there are few of them and much is said of each, so that lines stay short."""
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
