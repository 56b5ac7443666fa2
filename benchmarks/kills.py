"""kill -9 of workers at random, under load: is anything lost or ended twice, and how soon does work go on?

    .venv/bin/python benchmarks/kills.py --kills 1000

Starts a Valkey, a web process and some workers, keeps pictures coming by HTTP, and kills a worker every few moments.
Each worker is a process of its own, forked from one that has PyTorch in memory already, so that a thousand can be
started in minutes; they run what `wordlight worker` runs, with the shipped captioner and the default settings but for
the batch size. In the end every job that was answered 202 is looked up.

A job that a killed worker held has recovered when another worker begins it; if that one is killed before, the time
counts from that kill. A job whose workers were killed at each of its five attempts is given up, as a picture would be
that kills them, and its end is `failed`. The last line is JSON. Exit status 1: something was lost, ended twice, or
ended otherwise.
"""

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, cast

import httpx
from PIL import Image
from redis import Redis

from jobs import keys
from jobs.connection import connect
from wordlight.embedded import EmbeddedValkey

_CLIENTS = 16
_PICTURE_SIDE = 64
# As jobs/settings.py has it.
_MOST_ATTEMPTS = 5


def work(environment: dict[str, str]) -> None:
    """What a worker process does."""
    os.environ.update(environment)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    from worker.main import run
    from worker.settings import WorkerSettings

    sys.exit(run(WorkerSettings()))


class Workers:
    """Processes that are killed and replaced."""

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
        """Kill a worker at random; returns when (Redis's clock, ms), and the jobs that were in its hands."""
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
        """Let all of them finish."""
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
    """Clients that send a picture, wait for the end of its job, and send the next."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.accepted: list[str] = []
        self.refused: Counter[str] = Counter()
        self.stop = False

    async def run(self) -> None:
        """Send until told to stop, and then wait for what is under way."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._url, timeout=90, limits=limits) as client:
            await asyncio.gather(*(self._one(client) for _ in range(_CLIENTS)))

    async def _one(self, client: httpx.AsyncClient) -> None:
        while not self.stop:
            answer = await client.post("/v1/captions", content=_picture(), headers={"Content-Type": "image/png"})
            if answer.status_code != 202:
                self.refused[f"{answer.status_code} {answer.text}"] += 1
                continue
            job_id = answer.json()["id"]
            self.accepted.append(job_id)
            while True:
                with suppress(httpx.TransportError):
                    answer = await client.get(f"/v1/captions/{job_id}", params={"wait": 30})
                    if answer.json().get("status") not in ("queued", "processing"):
                        break


def _picture() -> bytes:
    """A small picture like no other."""
    file = io.BytesIO()
    noise = Image.frombytes("RGB", (_PICTURE_SIDE, _PICTURE_SIDE), random.randbytes(3 * _PICTURE_SIDE**2))
    noise.save(file, "PNG", compress_level=0)
    return file.getvalue()


def _history(redis: Redis, job_id: str) -> list[tuple[float, str]]:
    rows = cast(list[tuple[bytes, dict[bytes, bytes]]], redis.xrange(keys.events(job_id)))
    return [(int(entry.partition(b"-")[0]), fields[b"event"].decode()) for entry, fields in rows]


def _recovery_ms(history: list[tuple[float, str]], kills: list[float]) -> list[float]:
    """How long after each kill of a worker that held the job it was in work again."""
    times = []
    for number, killed in enumerate(kills):
        until = kills[number + 1] if number + 1 < len(kills) else float("inf")
        begun = [at for at, event in history if event == "processing" and killed <= at < until]
        if begun:
            times.append(begun[0] - killed)
    return times


async def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the figures."""
    with tempfile.TemporaryDirectory() as folder:
        valkey = EmbeddedValkey(Path(folder))
        server = subprocess.Popen(valkey.command, stdout=subprocess.DEVNULL)
        environment = {
            "REDIS_URL": valkey.url,
            "WORDLIGHT_PORT": str(arguments.port),
            "WORDLIGHT_RESULT_TTL_SECONDS": "86400",
            "WORDLIGHT_BATCH_SIZE": str(arguments.batch_size),
            "WORDLIGHT_THREADS": "1",
            "WORDLIGHT_MAX_PICTURES": "100",
        }
        api = subprocess.Popen(
            [sys.executable, "-m", "wordlight", "api"], env=os.environ | environment, stderr=subprocess.DEVNULL
        )
        url = f"http://127.0.0.1:{arguments.port}"
        workers = Workers(arguments.workers, environment)
        try:
            async with httpx.AsyncClient(base_url=url) as client:
                while True:
                    with suppress(httpx.TransportError):
                        if (await client.get("/readyz")).status_code == 200:
                            break
                    await asyncio.sleep(0.2)
            return await _kill(arguments, url, valkey.url, workers)
        finally:
            workers.end()
            api.terminate()
            api.wait()
            server.terminate()
            server.wait()
            valkey.close()


async def _kill(arguments: argparse.Namespace, url: str, redis_url: str, workers: Workers) -> dict[str, Any]:
    load = Load(url)
    sending = asyncio.create_task(load.run())
    kills: dict[str, list[float]] = {}
    empty_handed = 0
    begun = time.monotonic()
    with connect(redis_url) as redis:
        for number in range(arguments.kills):
            await asyncio.sleep(random.expovariate(1 / arguments.interval))
            at, held = await asyncio.to_thread(workers.kill_one, redis)
            empty_handed += not held
            for job_id in held:
                kills.setdefault(job_id, []).append(at)
            if (number + 1) % 50 == 0:
                print(f"{number + 1} kills, {len(load.accepted)} jobs taken in", file=sys.stderr, flush=True)
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
    ordered = sorted(times)
    return {
        "kills": arguments.kills,
        "kills_with_jobs_in_hand": arguments.kills - empty_handed,
        "jobs": len(load.accepted),
        "ends": dict(ends),
        "given_up": given_up,
        "lost": lost,
        "ended_twice": twice,
        "left_over": left,
        "refused": dict(load.refused),
        "attempts": {str(number): count for number, count in sorted(attempts.items())},
        "jobs_held_when_killed": len(times),
        "recovery_seconds": {
            "p50": round(statistics.median(ordered) / 1000, 2),
            "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] / 1000, 2),
            "max": round(ordered[-1] / 1000, 2),
        },
        "seconds": round(seconds),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--interval", type=float, default=1.2, help="seconds between kills, on average")
    parser.add_argument("--port", type=int, default=8765)
    figures = asyncio.run(bench(parser.parse_args()))
    for name, value in figures.items():
        print(f"{name:26}{value}")
    print(json.dumps(figures))
    right = figures["ends"].get("succeeded", 0) + figures["given_up"] == figures["jobs"]
    sys.exit(1 if figures["lost"] or figures["ended_twice"] or figures["left_over"] or not right else 0)


if __name__ == "__main__":
    main()
