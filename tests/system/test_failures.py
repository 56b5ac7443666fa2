"""Failures under load, with real processes and signals: killed workers, and queue servers that die or hang."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Self

import httpx
import pytest
from PIL import Image
from redis import Redis
from support.api import encode, problem, start_api
from support.command import Command
from support.queueing import ANY, get, history, produce
from support.restartable_valkey import RestartableValkey
from support.workers import (
    JPEG,
    PICTURES,
    assert_each_succeeded_once,
    start_slow_worker,
    start_worker,
    submit_long_jobs,
    wait_until_ended,
)

from jobs import keys
from jobs.job import Status
from jobs.producer import Picture, Producer
from jobs.settings import QueueSettings


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RestartableValkey]:
    """A queue server that the test may kill or pause."""
    server = RestartableValkey(tmp_path)
    server.start()
    yield server
    server.kill()


def start_poisonable_worker(settings: QueueSettings, captioner: Path) -> Command:
    environment = {
        "REDIS_URL": settings.redis_url,
        "WORDLIGHT_MODEL": str(captioner),
        "WORDLIGHT_THREADS": "1",
        "WORDLIGHT_BATCH_SIZE": "8",
        "WORDLIGHT_TAKEOVER_SECONDS": "0.5",
        "WORDLIGHT_MAX_ATTEMPTS": "4",
    }
    program = Path(__file__).parents[1] / "support" / "poisonable_worker.py"
    process = subprocess.Popen(
        [sys.executable, str(program)],
        env=os.environ | environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Command(process)


class RestartedWorker:
    """A poisonable worker that is restarted whenever it dies, as by a supervisor."""

    def __init__(self, settings: QueueSettings, captioner: Path) -> None:
        self.deaths = 0
        self._start = partial(start_poisonable_worker, settings, captioner)
        self._worker = self._start()
        self._thread = threading.Thread(target=self._restart)

    def _restart(self) -> None:
        while self._worker.process.wait() == -signal.SIGKILL:
            self.deaths += 1
            self._worker = self._start()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._worker.process.terminate()
        self._thread.join()


@pytest.mark.slow
def test_a_picture_that_kills_workers_fails_only_its_own_job(
    settings: QueueSettings, redis: Redis, tiny_captioner: Path
) -> None:
    async def act(producer: Producer) -> list[str]:
        white = encode(Image.new("RGB", (96, 96), "white"))
        pictures = [*PICTURES[:5], white, *PICTURES[5:]]
        return [await producer.submit(ANY, Picture(data, 96, 96)) for data in pictures]

    job_ids = produce(settings, act)
    poison = job_ids.pop(5)
    with RestartedWorker(settings, tiny_captioner) as restarted:
        wait_until_ended(settings, [poison, *job_ids])
    job = get(settings, poison)
    assert (job.status, job.attempts, restarted.deaths) == (Status.FAILED, 4, 4)
    assert job.error
    assert job.error.type.endswith(":poison")
    assert redis.xlen(keys.DEAD) == 1
    # The other jobs shared at most two batches with it, and all are captioned.
    assert_each_succeeded_once(settings, job_ids)
    assert max(get(settings, job_id).attempts for job_id in job_ids) <= 3
    assert redis.xlen(keys.STREAM) == 0


@pytest.mark.slow
def test_no_job_is_lost_when_the_queue_server_is_killed_under_load(
    valkey: RestartableValkey, tiny_captioner: Path
) -> None:
    settings = QueueSettings(redis_url=valkey.url)
    worker = start_worker(settings, tiny_captioner)
    worker.wait_for_line("on cpu")
    api, url = start_api(REDIS_URL=valkey.url)
    answers: Counter[int] = Counter()
    accepted: list[str] = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(120):
            if number in (40, 80):
                valkey.kill()
            if number in (50, 90):
                valkey.start()
            # Different options, so that no job gets the result of another.
            body = PICTURES[number % len(PICTURES)]
            answer = client.post(f"/v1/captions?max_words={number % 100 + 1}", content=body, headers=JPEG)
            answers[answer.status_code] += 1
            if answer.status_code == 202:
                accepted.append(answer.json()["id"])
            else:
                problem(answer, 503, "queue-unreachable")
    assert answers[503] >= 10
    assert len(accepted) >= 90
    wait_until_ended(settings, accepted)
    for job_id in accepted:
        assert Counter(history(settings, job_id))["succeeded"] == 1
    assert worker.end() == 0
    api.end()


@pytest.mark.slow
def test_requests_get_503_while_the_queue_server_hangs(valkey: RestartableValkey, tiny_captioner: Path) -> None:
    settings = QueueSettings(redis_url=valkey.url)
    worker = start_worker(settings, tiny_captioner)
    worker.wait_for_line("on cpu")
    api, url = start_api(REDIS_URL=valkey.url)
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.post("/v1/captions", content=PICTURES[0], headers=JPEG).status_code == 202
        valkey.pause()
        # Each answer takes as long as the timeout of Redis. Go on for thirty seconds.
        waited = 0.0
        while waited < 30:
            answer = client.post("/v1/captions", content=PICTURES[1], headers=JPEG)
            problem(answer, 503, "queue-unreachable")
            assert client.get("/healthz").status_code == 200
            waited += answer.elapsed.total_seconds()
        assert worker.process.poll() is None
        valkey.resume()
        answer = client.post("/v1/captions", content=PICTURES[2], headers=JPEG | {"Prefer": "wait=60"})
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert worker.end() == 0
    api.end()


def test_sigterm_stops_a_worker_that_loads_its_model(settings: QueueSettings, slow_captioner: Path) -> None:
    worker = start_worker(settings, slow_captioner)
    # It has begun to import PyTorch, which takes a second or more.
    assert worker.end() in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_killed_workers_lose_no_job(
    settings: QueueSettings, redis: Redis, tiny_captioner: Path, slow_captioner: Path
) -> None:
    """This is a short form of benchmarks/kills.py."""
    job_ids = submit_long_jobs(settings, 48)
    for kill in range(4):
        worker = start_slow_worker(settings, slow_captioner, batch_size=4)
        wait_until_ended(settings, job_ids, count=4 * (kill + 1))
        assert worker.end(signal.SIGKILL) == -signal.SIGKILL
    last = start_worker(settings, tiny_captioner)
    # On a fast machine no job may be left. Do not stop it before it handles signals.
    last.wait_for_line("on cpu")
    wait_until_ended(settings, job_ids)
    assert last.end() == 0
    assert_each_succeeded_once(settings, job_ids)
    assert redis.xpending(keys.STREAM, keys.GROUP)["pending"] == 0
