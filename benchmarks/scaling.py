"""Throughput with more and more workers whose model is a fixed sleep. In: a Valkey; out: captions/s, and who is busy.

What each worker does is read off the jobs that it has ended: from the end of its first batch to the end of its last.
So it does not matter that answers come in batches, nor when each worker began.
"""

import asyncio
import io
import itertools
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from PIL import Image
from redis import Redis
from sleeping_captioner import SleepingWorkers

from jobs import keys
from jobs.connection import connect_async
from jobs.job import Status
from jobs.options import CaptionOptions
from jobs.producer import File, Picture, Producer, Submission
from jobs.settings import QueueSettings

_FILES = 100  # a request
_LEAST_BATCHES = 3


@dataclass(frozen=True)
class Scaling:
    """How to measure."""

    url: str
    redis: Redis
    sleep_seconds: float
    batch_size: int
    picture_bytes: int
    settings: QueueSettings

    def measure(self, workers: int, seconds: float) -> dict[str, float]:
        """Captions/s of so many workers, over about `seconds`; the share of one processor that Valkey and they took."""
        self.redis.flushall()
        per_second = workers * self.batch_size / self.sleep_seconds
        # Two batches for each are under way when measuring ends, and a starting worker takes what there is.
        jobs = int(per_second * (seconds + 2 * self.sleep_seconds)) + 4 * workers * self.batch_size
        asyncio.run(fill(self.url, self.settings, jobs, self.picture_bytes))
        environment = {"REDIS_URL": self.url, "WORDLIGHT_BATCH_SIZE": str(self.batch_size)}
        running = SleepingWorkers(workers, self.sleep_seconds, environment)
        try:
            while self.redis.zcard(keys.WORKERS) < workers:
                running.must_live()
                time.sleep(0.05)
            began, valkey, ours = time.monotonic(), self._valkey_seconds(), running.cpu_seconds()
            time.sleep(max(seconds, (_LEAST_BATCHES + 1) * self.sleep_seconds))
            passed = time.monotonic() - began
            valkey, ours = self._valkey_seconds() - valkey, running.cpu_seconds() - ours
            left = cast(int, self.redis.xlen(keys.STREAM))
            ends = self._ends()
        finally:
            running.end()
        assert left > 0, "the queue ran dry: nobody was saturated"
        done = sum(map(len, ends))
        return {
            "per_second": sum(_rate(moments, self.batch_size, passed) for moments in ends),
            "valkey_busy": valkey / passed,
            "workers_busy": ours / passed,
            "valkey_ms_per_job": 1000 * valkey / max(1, done),
            "worker_ms_per_job": 1000 * ours / max(1, done),
        }

    def _valkey_seconds(self) -> float:
        cpu = cast(dict[str, float], self.redis.info("cpu"))
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"]

    def _ends(self) -> list[list[float]]:
        """When each worker ended its jobs, in seconds, the first one first."""
        pipeline = self.redis.pipeline(transaction=False)
        for name in self.redis.scan_iter(f"{keys.record('')}*", count=1000):
            pipeline.hmget(name, "status", "worker", "completed")
        found: defaultdict[bytes, list[float]] = defaultdict(list)
        for status, worker, completed in pipeline.execute():
            if status == Status.SUCCEEDED.encode():
                found[worker].append(int(completed) / 1000)
        return [sorted(moments) for moments in found.values()]


def _rate(moments: Sequence[float], batch_size: int, passed: float) -> float:
    """Jobs/s between the end of the first whole batch and the end of the last: `moments` are in order.

    A worker that has come no further than that, on a machine that is too small for so many, has what it has done in all
    the seconds that have `passed`.
    """
    whole = len(moments) // batch_size
    if whole < _LEAST_BATCHES:
        return len(moments) / passed
    last = moments[whole * batch_size - 1]
    return (whole - 1) * batch_size / (last - moments[batch_size - 1])


async def fill(url: str, settings: QueueSettings, jobs: int, picture_bytes: int) -> None:
    """Let so many jobs wait, in batches of a hundred, each with a picture of its own of about that size."""
    header = io.BytesIO()
    Image.new("RGB", (8, 8)).save(header, "JPEG")
    rest = bytes(max(0, picture_bytes - header.tell()))
    numbers = itertools.count()
    async with connect_async(url) as client:
        producer = Producer(client, settings)
        for first in range(0, jobs, _FILES):
            # What follows a JPEG's end is nobody's business, but makes another picture of it.
            pictures = [
                Picture(header.getvalue() + next(numbers).to_bytes(8, "big") + rest, 640, 480)
                for _ in range(min(_FILES, jobs - first))
            ]
            await producer.submit_batch(Submission(CaptionOptions()), [File(picture) for picture in pictures])


def summary(rounds: Sequence[dict[int, dict[str, float]]], median: Any) -> list[dict[str, Any]]:
    """For each number of workers the medians over rounds; efficiency is against one worker in the same round."""
    rows = []
    for workers in rounds[0]:
        row: dict[str, Any] = {"workers": workers}
        row["per_second"] = round(median([one[workers]["per_second"] for one in rounds]), 2)
        alone = [one[workers]["per_second"] / (workers * one[1]["per_second"]) for one in rounds]
        row["of_linear"] = round(median(alone), 4)
        for name in ("valkey_busy", "workers_busy", "valkey_ms_per_job", "worker_ms_per_job"):
            row[name] = round(median([one[workers][name] for one in rounds]), 3)
        rows.append(row)
    return rows
