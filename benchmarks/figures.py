"""What all benchmarks share: timings taken in turn, medians, latency percentiles, tables, and a last line of JSON.

Machines are noisy and change from minute to minute. So tasks that are compared run in turn, round after round, and
ratios are taken within a round.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value for each round: seconds, rates or ratios."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median over rounds."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile over rounds."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def over(self, other: "Sample") -> "Sample":
        """Divide by `other`, round by round."""
        return Sample(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))

    def rate(self, count: int) -> "Sample":
        """Convert seconds for `count` items to items a second."""
        return Sample(tuple(count / seconds for seconds in self.values))

    def scaled(self, factor: float) -> "Sample":
        """Multiply by `factor`."""
        return Sample(tuple(value * factor for value in self.values))

    def figures(self) -> dict[str, float]:
        """Return median, quartiles, extremes and the number of rounds, for the JSON line."""
        low, high = self.quartiles
        found = {"median": self.median, "low": low, "high": high, "min": min(self.values), "max": max(self.values)}
        return {name: _rounded(value) for name, value in found.items()} | {"runs": len(self.values)}

    def __str__(self) -> str:
        low, high = self.quartiles
        return f"{_rounded(self.median, 3):g} ({_rounded(low, 3):g}–{_rounded(high, 3):g})"


def side_by_side(tasks: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, Sample]:
    """Return the seconds of each task in each round, after one warm-up round.

    Each round starts with another task, so that no task always follows the same one.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in tasks}
    order = list(tasks)
    for number in range(-1, rounds):
        first = max(number, 0) % len(order)
        for name in order[first:] + order[:first]:
            started = time.perf_counter()
            tasks[name]()
            taken = time.perf_counter() - started
            if number >= 0:
                seconds[name].append(taken)
    return {name: Sample(tuple(values)) for name, values in seconds.items()}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return latency percentiles in ms and the number of requests.

    With fewer than a hundred requests, p99 is close to the maximum.
    """
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99)) * 1000
    return {
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "p99_ms": round(float(p99), 2),
        "max_ms": round(max(seconds) * 1000, 2),
        "requests": len(seconds),
    }


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows with the same columns; the keys of the first row are the header."""
    columns = list(rows[0])
    cells = [columns, *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *others]))
    print(flush=True)


def finish(benchmark: str, figures: Mapping[str, Any]) -> None:
    """Print all figures, with the machine that gave them, as the last line."""
    print(json.dumps({"benchmark": benchmark, "machine": _machine(), **figures}))


def _machine() -> dict[str, Any]:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": round(os.getloadavg()[0], 1),
    }


def _rounded(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}")
