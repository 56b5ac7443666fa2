"""Counters and histograms of all workers and scripts, in one Redis hash that is never reset. `app` serves them.

A field of the hash is a metric's name and label, as `jobs_finished|status=succeeded`. A histogram has one field per
bucket, which counts that bucket alone, and one for the sum: `stage_seconds_bucket|stage=prepare|le=0.1`,
`stage_seconds_sum|stage=prepare`. The Lua scripts count with HINCRBY.
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
    """A stage of a job in the worker."""

    QUEUE = "queue"
    PREPARE = "prepare"
    CAPTION = "caption"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Label:
    """A metric's label and its possible values."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counter:
    """A number of events."""

    name: str
    documentation: str
    label: Label | None = None

    def field(self, value: str | None = None) -> str:
        """Return the field of the hash for that value of the label."""
        return _field(self.name, self.label, value)

    def read(self, counts: Mapping[str, float], value: str | None = None) -> float:
        """Return the count."""
        return counts.get(self.field(value), 0.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """A distribution of amounts."""

    name: str
    documentation: str
    bounds: tuple[float, ...]
    label: Label | None = None

    def fields(self, amount: float, value: str | None = None) -> tuple[str, str]:
        """Return the two fields of the hash to which an `amount` is added: its bucket and the sum."""
        return self._bucket([*self.bounds, math.inf][bisect_left(self.bounds, amount)], value), self._sum(value)

    def read(self, counts: Mapping[str, float], value: str | None = None) -> tuple[list[tuple[str, float]], float]:
        """Return each bound, as text, with the number of amounts up to it; and the sum of all amounts."""
        bounds = [*self.bounds, math.inf]
        cumulative = accumulate(counts.get(self._bucket(bound, value), 0.0) for bound in bounds)
        return list(zip(map(_bound, bounds), cumulative, strict=True)), counts.get(self._sum(value), 0.0)

    def _bucket(self, bound: float, value: str | None) -> str:
        return f"{_field(f'{self.name}_bucket', self.label, value)}|le={_bound(bound)}"

    def _sum(self, value: str | None) -> str:
        return _field(f"{self.name}_sum", self.label, value)


JOBS_SUBMITTED = Counter("jobs_submitted", "Jobs accepted")
JOBS_CACHED = Counter("jobs_cached", "Jobs answered with the result of an earlier job")
JOBS_FINISHED = Counter(
    "jobs_finished",
    "Jobs that ended, by status",
    Label("status", tuple(status.value for status in Status if status.terminal)),
)
JOBS_RECLAIMED = Counter("jobs_reclaimed", "Jobs taken over from a dead worker")
JOBS_DEAD = Counter("jobs_dead", "Jobs given up after the last attempt")
OUT_OF_MEMORY_SPLITS = Counter("out_of_memory_splits", "Batches halved because they did not fit the memory")
COUNTERS = (JOBS_SUBMITTED, JOBS_CACHED, JOBS_FINISHED, JOBS_RECLAIMED, JOBS_DEAD, OUT_OF_MEMORY_SPLITS)

BATCH_SIZE = Histogram("batch_size", "Pictures captioned together", (1, 2, 4, 8, 16, 32, 64, 128, 256))
STAGE_SECONDS = Histogram(
    "stage_seconds",
    "Seconds that a job waits for its batch (queue) and that its picture takes to prepare (prepare); seconds that a "
    "batch takes to caption (caption) and to store (finish)",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
    Label("stage", tuple(stage.value for stage in Stage)),
)
HISTOGRAMS = (BATCH_SIZE, STAGE_SECONDS)


class Recorder:
    """Counts in one process, from any thread. `store` adds the counts to the hash."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lock = threading.Lock()
        self._counts: defaultdict[str, float] = defaultdict(float)

    def count(self, counter: Counter, value: str | None = None) -> None:
        """Increment a counter."""
        with self._lock:
            self._counts[counter.field(value)] += 1

    def observe(self, histogram: Histogram, amount: float, value: str | None = None) -> None:
        """Add an amount to a histogram."""
        bucket, total = histogram.fields(amount, value)
        with self._lock:
            self._counts[bucket] += 1
            self._counts[total] += amount

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Measure the time spent inside as that of `stage`. An exception discards it."""
        started = time.perf_counter()
        yield
        self.observe(STAGE_SECONDS, time.perf_counter() - started, stage)

    def store(self) -> None:
        """Add the counts to the hash. If Redis does not answer, keep them for the next call. Never raises."""
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
            log.warning("metrics are stored later: %s", error)
            with self._lock:
                for field, amount in counts.items():
                    self._counts[field] += amount


def read_counts(answer: Mapping[bytes, bytes]) -> dict[str, float]:
    """Convert the hash from Redis for `Counter.read` and `Histogram.read`."""
    return {field.decode(): float(amount) for field, amount in answer.items()}


def _field(name: str, label: Label | None, value: str | None) -> str:
    if label is None:
        return name
    assert value in label.values, f"{name} has no {label.name} {value!r}"
    return f"{name}|{label.name}={value}"


def _bound(bound: float) -> str:
    return "+Inf" if bound == math.inf else f"{bound:g}"
