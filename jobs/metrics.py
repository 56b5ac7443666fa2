"""What workers and scripts count, all of them together, in one hash in Redis that is never reset.

In: observations; out: sums of them, which GET /metrics shows. A field of the hash is the name of what is counted and
its label, `jobs_finished|status=succeeded`. A histogram has a field for each bucket, which counts what fell into that
one alone, and one for the sum: `stage_seconds_bucket|stage=prepare|le=0.1`, `stage_seconds_sum|stage=prepare`. It must
not know Prometheus. The scripts in jobs/scripts count by themselves, with HINCRBY.
"""

import logging
import math
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from redis import Redis
from redis.exceptions import RedisError

from jobs import keys
from jobs.job import Status

log = logging.getLogger(__name__)


class Stage(StrEnum):
    """A piece of a job's road through the worker."""

    QUEUE = "queue"
    PREPARE = "prepare"
    CAPTION = "caption"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Label:
    """What tells the series of one metric apart, and all that it may be."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counter:
    """Something that happens."""

    name: str
    documentation: str
    label: Label | None = None

    def field(self, value: str | None = None) -> str:
        """The field of the hash that counts; `value` is that of the label."""
        return _field(self.name, self.label, value)

    def read(self, counts: Mapping[str, float], value: str | None = None) -> float:
        """How often it happened."""
        return counts.get(self.field(value), 0.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Something that is measured."""

    name: str
    documentation: str
    bounds: tuple[float, ...]
    label: Label | None = None

    def fields(self, amount: float, value: str | None = None) -> tuple[str, str]:
        """The fields of the hash that count and sum an `amount`."""
        return self._bucket([*self.bounds, math.inf][bisect_left(self.bounds, amount)], value), self._sum(value)

    def read(self, counts: Mapping[str, float], value: str | None = None) -> tuple[list[tuple[str, float]], float]:
        """Each bound, as text, with how many amounts did not exceed it; and the sum of all amounts."""
        bounds = [*self.bounds, math.inf]
        found = accumulate(counts.get(self._bucket(bound, value), 0.0) for bound in bounds)
        return list(zip(map(_bound, bounds), found, strict=True)), counts.get(self._sum(value), 0.0)

    def _bucket(self, bound: float, value: str | None) -> str:
        return f"{_field(f'{self.name}_bucket', self.label, value)}|le={_bound(bound)}"

    def _sum(self, value: str | None) -> str:
        return _field(f"{self.name}_sum", self.label, value)


JOBS_SUBMITTED = Counter("jobs_submitted", "Jobs taken in")
JOBS_CACHED = Counter("jobs_cached", "Jobs answered with the result of an earlier one")
JOBS_FINISHED = Counter(
    "jobs_finished",
    "Jobs that ended, by how",
    Label("status", tuple(status.value for status in Status if status.terminal)),
)
JOBS_RECLAIMED = Counter("jobs_reclaimed", "Jobs taken over from a worker that was not heard of any more")
JOBS_DEAD = Counter("jobs_dead", "Jobs given up after too many attempts")
OUT_OF_MEMORY_SPLITS = Counter("out_of_memory_splits", "Batches halved because the device had no memory for them")
COUNTERS = (JOBS_SUBMITTED, JOBS_CACHED, JOBS_FINISHED, JOBS_RECLAIMED, JOBS_DEAD, OUT_OF_MEMORY_SPLITS)

BATCH_SIZE = Histogram(
    "batch_size", "Pictures that went through the model together", (1, 2, 4, 8, 16, 32, 64, 128, 256)
)
STAGE_SECONDS = Histogram(
    "stage_seconds",
    "Seconds from a job's arrival to its batch's beginning (queue) and to prepare its picture (prepare); seconds to "
    "caption a batch (caption) and to store all its results (finish)",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
    Label("stage", tuple(stage.value for stage in Stage)),
)
HISTOGRAMS = (BATCH_SIZE, STAGE_SECONDS)


class Recorder:
    """Counts for one process, from any of its threads, and adds to the hash what it has counted when told to."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lock = threading.Lock()
        self._counts: defaultdict[str, float] = defaultdict(float)

    def count(self, counter: Counter, value: str | None = None) -> None:
        """It happened."""
        with self._lock:
            self._counts[counter.field(value)] += 1

    def observe(self, histogram: Histogram, amount: float, value: str | None = None) -> None:
        """It was measured."""
        bucket, total = histogram.fields(amount, value)
        with self._lock:
            self._counts[bucket] += 1
            self._counts[total] += amount

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """The time spent within was spent on `stage`, unless it failed."""
        started = time.perf_counter()
        yield
        self.observe(STAGE_SECONDS, time.perf_counter() - started, stage)

    def store(self) -> None:
        """Add to the hash, in one go; what Redis does not take now is tried again next time. Never raises."""
        with self._lock:
            counts, self._counts = self._counts, defaultdict(float)
        if not counts:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for field, amount in counts.items():
            pipeline.hincrbyfloat(keys.COUNTS, field, amount)
        try:
            pipeline.execute()
        except RedisError as error:
            log.warning("what was counted is kept for later: %s", error)
            with self._lock:
                for field, amount in counts.items():
                    self._counts[field] += amount


def read_counts(answer: Mapping[bytes, bytes]) -> dict[str, float]:
    """The hash as Redis gave it, as `Counter.read` and `Histogram.read` take it."""
    return {field.decode(): float(amount) for field, amount in answer.items()}


def _field(name: str, label: Label | None, value: str | None) -> str:
    if label is None:
        return name
    assert value in label.values, f"{name} knows no {label.name} {value!r}"
    return f"{name}|{label.name}={value}"


def _bound(bound: float) -> str:
    return "+Inf" if bound == math.inf else f"{bound:g}"
