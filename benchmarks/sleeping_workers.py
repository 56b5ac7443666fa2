"""Worker processes whose model is a fixed sleep, and their throughput: what remains is the cost of everything else.

They are forked from a process that has already imported PyTorch, so that many fit into memory. They run what
`wordlight worker` runs, except for the captioner: each batch takes a fixed time, and results are as long as real ones.
"""

import asyncio
import io
import itertools
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from figures import Sample
from PIL import Image
from redis import Redis

from jobs import keys
from jobs.connection import connect_async
from jobs.job import Status
from jobs.options import CaptionOptions
from jobs.producer import File, Picture, Producer, Submission
from jobs.settings import QueueSettings
from model.decoding.caption import Caption, Word, WordMap
from model.decoding.options import DecodingOptions
from model.decoding.streaming import DecodingListener

_SIDE = 17  # of the attention grid, as in the shipped captioner
_WORDS = 10
_WEIGHTS = [0.0035] * (_SIDE * _SIDE)
_FILES = 100  # in a batch request
_LEAST_BATCHES = 3


class SleepingCaptioner:
    """The part of a captioner that a worker uses."""

    device = torch.device("cpu")
    config = SimpleNamespace(name="sleeping")
    engine = SimpleNamespace(name="sleeping")
    version = "0"

    def __init__(self, seconds: float) -> None:
        """`seconds`: time of a batch."""
        self._seconds = seconds
        self._asleep_until = 0.0

    def prepare(self, _image: Image.Image) -> torch.Tensor:
        """Return an empty tensor without decoding the image."""
        return torch.zeros(3, 1, 1, dtype=torch.uint8)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Start the time of the batch."""
        self._asleep_until = time.monotonic() + self._seconds
        return pixels

    def generate(
        self,
        encoded: torch.Tensor,
        options: DecodingOptions,
        *,
        seeds: Sequence[int | None],
        listener: DecodingListener,
    ) -> list[list[Caption]]:
        """Sleep between words. Like beam search without a follower, report no word early."""
        assert len(seeds) == len(encoded)
        for step in range(_WORDS):
            until_the_next = (self._asleep_until - time.monotonic()) / (_WORDS - step)
            time.sleep(max(0.0, until_the_next))
            listener.step([])
        return [_captions(options.num_captions) for _ in range(len(encoded))]


def _captions(count: int) -> list[Caption]:
    word_map = WordMap(_SIDE, _SIDE, _WEIGHTS)
    words = [Word("dog", -1.0, word_map, word_map) for _ in range(_WORDS)]
    return [Caption("dog " * _WORDS, -float(_WORDS), words) for _ in range(count)]


def caption_like_a_real_one() -> Caption:
    """Return a caption with as many words and weights as the shipped captioner's."""
    return _captions(1)[0]


class SleepingWorkers:
    """Several worker processes."""

    def __init__(self, count: int, seconds: float, environment: dict[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["worker.main", "sleeping_workers"])
        self._all: list[ForkServerProcess] = []
        for _ in range(count):
            process = context.Process(target=_work, args=(seconds, environment))
            process.start()
            self._all.append(process)

    def cpu_seconds(self) -> float:
        """Processor time of all workers so far."""
        ticks = 0
        for process in self._all:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # user and system
        return ticks / os.sysconf("SC_CLK_TCK")

    def must_live(self) -> None:
        """Raise RuntimeError if a worker has ended."""
        ended = [process.exitcode for process in self._all if not process.is_alive()]
        if ended:
            raise RuntimeError(f"a worker did not start: exit status {ended[0]}")

    def end(self) -> None:
        """Stop all workers and wait for them."""
        for process in self._all:
            process.terminate()
        for process in self._all:
            process.join()


def _work(seconds: float, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    import worker.main
    from worker.settings import WorkerSettings

    worker.main.load_for_inference = lambda *_, **__: SleepingCaptioner(seconds)  # type: ignore
    sys.exit(worker.main.run(WorkerSettings()))


@dataclass(frozen=True)
class Scaling:
    """Measures throughput by number of workers."""

    url: str
    redis: Redis
    sleep_seconds: float
    batch_size: int
    picture_bytes: int
    settings: QueueSettings

    def measure(self, workers: int, seconds: float) -> dict[str, float]:
        """Run `workers` for about `seconds`; return captions/s and the processor shares of Valkey and the workers."""
        self.redis.flushall()
        per_second = workers * self.batch_size / self.sleep_seconds
        # Each worker has two batches when measuring ends, and more when it starts.
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
        assert left > 0, "the queue ran empty, so the workers were not saturated"
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
        """Return the sorted end times of each worker's jobs, in seconds."""
        pipeline = self.redis.pipeline(transaction=False)
        for name in self.redis.scan_iter(f"{keys.record('')}*", count=1000):
            pipeline.hmget(name, "status", "worker", "completed")
        found: defaultdict[bytes, list[float]] = defaultdict(list)
        for status, worker, completed in pipeline.execute():
            if status == Status.SUCCEEDED.encode():
                found[worker].append(int(completed) / 1000)
        return [sorted(moments) for moments in found.values()]


def _rate(moments: Sequence[float], batch_size: int, passed: float) -> float:
    """Return jobs/s between the ends of the first and the last whole batch, given sorted end times.

    So it does not matter when a worker started, nor that results come in batches. A worker with too few batches, on a
    machine that is too small, gets its jobs over all `passed` seconds.
    """
    whole = len(moments) // batch_size
    if whole < _LEAST_BATCHES:
        return len(moments) / passed
    last = moments[whole * batch_size - 1]
    return (whole - 1) * batch_size / (last - moments[batch_size - 1])


async def fill(url: str, settings: QueueSettings, jobs: int, picture_bytes: int) -> None:
    """Submit `jobs` jobs, each with its own picture of about `picture_bytes`."""
    header = io.BytesIO()
    Image.new("RGB", (8, 8)).save(header, "JPEG")
    rest = bytes(max(0, picture_bytes - header.tell()))
    numbers = itertools.count()
    async with connect_async(url) as client:
        producer = Producer(client, settings)
        for first in range(0, jobs, _FILES):
            # Bytes after the end of a JPEG do not matter, but make another picture of it.
            pictures = [
                Picture(header.getvalue() + next(numbers).to_bytes(8, "big") + rest, 640, 480)
                for _ in range(min(_FILES, jobs - first))
            ]
            await producer.submit_batch(Submission(CaptionOptions()), [File(picture) for picture in pictures])


def summary(rounds: Sequence[dict[int, dict[str, float]]]) -> list[dict[str, Any]]:
    """Return medians over rounds for each number of workers; `of_linear` compares with one worker in the same round."""
    rows = []
    for workers in rounds[0]:

        def median(values: list[float], digits: int = 3) -> float:
            return round(Sample(tuple(values)).median, digits)

        row: dict[str, Any] = {"workers": workers}
        row["per_second"] = median([one[workers]["per_second"] for one in rounds], 2)
        row["of_linear"] = median([one[workers]["per_second"] / (workers * one[1]["per_second"]) for one in rounds], 4)
        for name in ("valkey_busy", "workers_busy", "valkey_ms_per_job", "worker_ms_per_job"):
            row[name] = median([one[workers][name] for one in rounds])
        rows.append(row)
    return rows
