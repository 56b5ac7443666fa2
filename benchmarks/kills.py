"""kill -9 workers at random under load: does a job get lost or end twice, and how soon does another worker take over?

    python benchmarks/kills.py --kills 150

Starts a Valkey, a web process and four workers, sends pictures from 16 clients, and kills a worker every second or so.
Workers are forked from a process that has already imported PyTorch, so that they start fast. They run what `wordlight
worker` runs, with the shipped captioner. At the end every job that got a 202 is looked up.

A job of a killed worker has recovered when another worker starts it. If that one is killed first, the time counts from
that kill. A job whose worker is killed at each of its five attempts is given up and ends as `failed`. The last line is
JSON. The exit status is 1 if a job was lost, ended twice, or failed for another reason.
"""

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, cast

from figures import finish, percentiles
from load import Client, unfinished
from PIL import Image
from redis import Redis
from whole_service import responds

from jobs import keys
from jobs.connection import connect
from model.runtime.captioner import SHIPPED
from wordlight.queue_server import EmbeddedValkey

_CLIENTS = 16
_PICTURE_SIDE = 64
# The default of WORDLIGHT_MAX_ATTEMPTS.
_MOST_ATTEMPTS = 5


def work(environment: dict[str, str]) -> None:
    """Run a worker process."""
    os.environ.update(environment)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    from worker.main import run
    from worker.settings import WorkerSettings

    sys.exit(run(WorkerSettings()))


class Workers:
    """Worker processes that are killed and replaced."""

    def __init__(self, count: int, environment: dict[str, str]) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["worker.main", "worker.settings", "jobs.connection"])
        self._environment = environment
        self._alive = [self._start() for _ in range(count)]

    def _start(self) -> ForkServerProcess:
        process = self._context.Process(target=work, args=(self._environment,))
        process.start()
        return process

    def kill_one(self, redis: Redis) -> tuple[float, list[str]]:
        """Kill a random worker; return the time (Redis's clock, ms) and the jobs that it held."""
        place = random.randrange(len(self._alive))
        victim = self._alive[place]
        assert victim.pid
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        seconds, microseconds = cast(tuple[int, int], redis.time())
        held = _held_by(redis, victim.pid)
        self._alive[place] = self._start()
        return seconds * 1000 + microseconds / 1000, held

    def end(self) -> None:
        """Stop all workers and wait for them."""
        for process in self._alive:
            process.terminate()
        for process in self._alive:
            process.join()


def _held_by(redis: Redis, pid: int) -> list[str]:
    held: list[str] = []
    for consumer in cast(list[dict[str, Any]], redis.xinfo_consumers(keys.STREAM, keys.GROUP)):
        name = consumer["name"].decode()
        if name.split("-")[-2] == str(pid) and consumer["pending"]:
            for entry in redis.xpending_range(keys.STREAM, keys.GROUP, "-", "+", 1000, consumername=name):
                rows = redis.xrange(keys.STREAM, entry["message_id"], entry["message_id"])
                held += [fields[b"job"].decode() for _, fields in cast(Any, rows)]
    return held


class Load:
    """Clients that send a picture, wait until its job ends, and send the next."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.accepted: list[str] = []
        self.refused: Counter[str] = Counter()
        self.stop = False

    async def run(self) -> None:
        """Send until `stop` is set, then wait for the jobs that run."""
        async with Client(self._port) as client:
            await asyncio.gather(*(self._one(client) for _ in range(_CLIENTS)))

    async def _one(self, client: Client) -> None:
        while not self.stop:
            status, body = await client.ask("POST", "/v1/captions", _picture(), "image/png")
            if status != 202:
                self.refused[f"{status} {body.decode()}"] += 1
                continue
            job_id = json.loads(body)["id"]
            self.accepted.append(job_id)
            while unfinished(body):
                _, body = await client.ask("GET", f"/v1/captions/{job_id}?wait=30")


def _picture() -> bytes:
    """Return a small random picture."""
    file = io.BytesIO()
    noise = Image.frombytes("RGB", (_PICTURE_SIDE, _PICTURE_SIDE), random.randbytes(3 * _PICTURE_SIDE**2))
    noise.save(file, "PNG", compress_level=0)
    return file.getvalue()


def _history(redis: Redis, job_id: str) -> list[tuple[float, str]]:
    rows = cast(list[tuple[bytes, dict[bytes, bytes]]], redis.xrange(keys.events(job_id)))
    return [(int(entry.partition(b"-")[0]), fields[b"event"].decode()) for entry, fields in rows]


def _recovery_ms(history: list[tuple[float, str]], kills: list[float]) -> list[float]:
    """Return the time from each kill of a worker that held the job until another worker started it."""
    times = []
    for number, killed in enumerate(kills):
        until = kills[number + 1] if number + 1 < len(kills) else float("inf")
        begun = [at for at, event in history if event == "processing" and killed <= at < until]
        if begun:
            times.append(begun[0] - killed)
    return times


async def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the processes, kill workers, and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        valkey = EmbeddedValkey(Path(folder))
        server = subprocess.Popen(valkey.command, stdout=subprocess.DEVNULL)
        environment = {
            "REDIS_URL": valkey.url,
            "WORDLIGHT_MODEL": str(arguments.model.absolute()),
            "WORDLIGHT_PORT": str(arguments.port),
            "WORDLIGHT_RESULT_TTL_SECONDS": "86400",
            "WORDLIGHT_BATCH_SIZE": str(arguments.batch_size),
            "WORDLIGHT_THREADS": "1",
            "WORDLIGHT_MAX_PICTURES": "100",
        }
        api = subprocess.Popen(
            [sys.executable, "-m", "wordlight", "api"], env=os.environ | environment, stderr=subprocess.DEVNULL
        )
        workers = Workers(arguments.workers, environment)
        try:
            while not await asyncio.to_thread(responds, arguments.port, "/readyz"):
                await asyncio.sleep(0.2)
            return await _kill(arguments, valkey.url, workers)
        finally:
            workers.end()
            api.terminate()
            api.wait()
            server.terminate()
            server.wait()
            valkey.close()


async def _kill(arguments: argparse.Namespace, redis_url: str, workers: Workers) -> dict[str, Any]:
    load = Load(arguments.port)
    sending = asyncio.create_task(load.run())
    kills: dict[str, list[float]] = {}
    kills_without_jobs = 0
    begun = time.monotonic()
    with connect(redis_url) as redis:
        for number in range(arguments.kills):
            await asyncio.sleep(random.expovariate(1 / arguments.interval))
            at, held = await asyncio.to_thread(workers.kill_one, redis)
            kills_without_jobs += not held
            for job_id in held:
                kills.setdefault(job_id, []).append(at)
            if (number + 1) % 50 == 0:
                print(f"{number + 1} kills, {len(load.accepted)} jobs accepted", file=sys.stderr, flush=True)
        load.stop = True
        await sending
        seconds = time.monotonic() - begun
        ends: Counter[str] = Counter()
        twice = lost = given_up = 0
        times: list[float] = []
        attempts: Counter[int] = Counter()
        for job_id in load.accepted:
            history = _history(redis, job_id)
            terminal = [event for _, event in history if event in ("succeeded", "failed", "canceled", "expired")]
            lost += not terminal
            twice += len(terminal) > 1
            ends.update(terminal[:1])
            begun_times = sum(event == "processing" for _, event in history)
            attempts[begun_times] += 1
            given_up += terminal == ["failed"] and begun_times == _MOST_ATTEMPTS
            times += _recovery_ms(history, kills.get(job_id, []))
        left = redis.zcard(keys.ACTIVE)
    return {
        "kills": arguments.kills,
        "kills_with_jobs": arguments.kills - kills_without_jobs,
        "jobs": len(load.accepted),
        "ends": dict(ends),
        "given_up": given_up,
        "lost": lost,
        "ended_twice": twice,
        "left_over": left,
        "refused": dict(load.refused),
        "attempts": {str(number): count for number, count in sorted(attempts.items())},
        "jobs_held_when_killed": len(times),
        "recovery": percentiles([time / 1000 for time in times]) if times else None,
        "seconds": round(seconds),
    }


def main() -> None:
    """Run the benchmark and exit with its status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=150)
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--interval", type=float, default=1.2, help="seconds between kills, on average")
    parser.add_argument("--port", type=int, default=8765)
    figures = asyncio.run(bench(parser.parse_args()))
    for name, value in figures.items():
        print(f"{name:26}{value}")
    finish("kills", figures)
    right = figures["ends"].get("succeeded", 0) + figures["given_up"] == figures["jobs"]
    sys.exit(1 if figures["lost"] or figures["ended_twice"] or figures["left_over"] or not right else 0)


if __name__ == "__main__":
    main()
