"""Times of several things, side by side. In: things to do; out: what each took in every round, and how they compare.

Machines are noisy and change from minute to minute, so things that are to be compared are done in turn, round after
round, and compared within each round. It must not know what is done.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured in each round: seconds, or ratios."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """What a quarter of the rounds is below, and what a quarter is above."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def over(self, other: "Sample") -> "Sample":
        """How many times the other one this is, in each round."""
        return Sample(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))

    def rate(self, count: int) -> "Sample":
        """Of seconds in which `count` things were done: how many a second."""
        return Sample(tuple(count / seconds for seconds in self.values))

    def scaled(self, factor: float) -> "Sample":
        """The same in another unit."""
        return Sample(tuple(value * factor for value in self.values))

    def figures(self) -> dict[str, float]:
        """Median and quartiles, for a program to read."""
        low, high = self.quartiles
        return {"median": _rounded(self.median), "low": _rounded(low), "high": _rounded(high)}

    def __str__(self) -> str:
        low, high = self.quartiles
        return f"{_rounded(self.median, 3):g} ({_rounded(low, 3):g}–{_rounded(high, 3):g})"


def side_by_side(tasks: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, Sample]:
    """Seconds of each task in each round, after one round that counts for nothing.

    Each round begins with another task, so that none always has the same one before it.
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


def verdict(what: str, value: float, aim: float, *, below: bool = False) -> str:
    """A line that says what was aimed at, and whether it was reached. Nothing fails by it."""
    met = value < aim if below else value >= aim
    return f"{what}: {_rounded(value, 3):g} (aim {'<' if below else '≥'} {aim:g}: {'met' if met else 'missed'})"


def _rounded(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}")
