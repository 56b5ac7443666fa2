"""Worker processes, real signals, a real Valkey: whatever dies, every job reaches one terminal state, once."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import tiny
from command import Command, start_command
from redis import Redis
from test_api import encode
from test_queue import get, history, produce

from jobs import keys
from jobs.job import Status
from jobs.producer import Producer
from jobs.settings import QueueSettings

PICTURE = encode(tiny.picture("red", "green"))


def start_worker(settings: QueueSettings, captioner: Path, **environment: str) -> Command:
    return start_command(
        "worker",
        REDIS_URL=settings.redis_url,
        WORDLIGHT_MODEL=str(captioner),
        WORDLIGHT_TAKEOVER_SECONDS="1",
        WORDLIGHT_THREADS="1",
        **environment,
    )


def submit(settings: QueueSettings, count: int) -> list[str]:
    async def act(producer: Producer) -> list[str]:
        return [await producer.submit(PICTURE, 96, 96) for _ in range(count)]

    return produce(settings, act)


def wait_until_ended(settings: QueueSettings, job_ids: list[str], count: int | None = None) -> None:
    """Until `count` of the jobs (all of them, when not told) are over; each notice is a reason to look."""

    async def act(producer: Producer) -> None:
        async with asyncio.timeout(90):
            async for _ in producer.notices():
                jobs = [await producer.get(job_id) for job_id in job_ids]
                if sum(job is not None and job.status.terminal for job in jobs) >= (count or len(job_ids)):
                    return

    produce(settings, act)


def assert_each_succeeded_once(settings: QueueSettings, job_ids: list[str]) -> None:
    for job_id in job_ids:
        statuses = history(settings, job_id)
        assert statuses[0] == "queued"
        assert statuses[-1] == "succeeded"
        assert sum(Status(status).terminal for status in statuses) == 1
        assert len(get(settings, job_id).captions) == 3


def test_kill_in_mid_batch_loses_nothing(settings: QueueSettings, redis: Redis, tiny_captioner: Path) -> None:
    job_ids = submit(settings, 60)
    # A slow worker: many beams and small batches, so that it dies with work in its hands.
    victim = start_worker(
        settings, tiny_captioner, WORDLIGHT_BATCH_SIZE="4", WORDLIGHT_BEAM_SIZE="20", WORDLIGHT_NUM_CAPTIONS="3"
    )
    wait_until_ended(settings, job_ids, count=8)
    assert victim.end(signal.SIGKILL) == -signal.SIGKILL
    held = redis.xpending(keys.STREAM, keys.GROUP)["pending"]
    assert held > 0, "the worker died with nothing in its hands: the test shows nothing"
    heir = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, job_ids)
    assert heir.end() == 0
    assert_each_succeeded_once(settings, job_ids)
    assert redis.xlen(keys.STREAM) == 0


def test_a_second_worker_needs_nothing_but_to_be_started(settings: QueueSettings, tiny_captioner: Path) -> None:
    workers = [start_worker(settings, tiny_captioner, WORDLIGHT_BATCH_SIZE="2") for _ in range(2)]
    for worker in workers:
        worker.wait_for_line("on cpu")
    job_ids = submit(settings, 40)
    wait_until_ended(settings, job_ids)
    assert_each_succeeded_once(settings, job_ids)
    assert [worker.end() for worker in workers] == [0, 0]


def test_a_stopped_worker_is_taken_over_and_its_late_result_refused(
    settings: QueueSettings, tiny_captioner: Path
) -> None:
    job_ids = submit(settings, 30)
    sleeper = start_worker(settings, tiny_captioner, WORDLIGHT_BATCH_SIZE="4", WORDLIGHT_BEAM_SIZE="20")
    wait_until_ended(settings, job_ids, count=4)
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    heir = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, job_ids)
    os.kill(sleeper.process.pid, signal.SIGCONT)
    assert sleeper.end() == 0
    assert heir.end() == 0
    assert_each_succeeded_once(settings, job_ids)


def test_sigterm_finishes_the_batch_and_hands_the_rest_back(
    settings: QueueSettings, redis: Redis, tiny_captioner: Path
) -> None:
    job_ids = submit(settings, 60)
    worker = start_worker(settings, tiny_captioner, WORDLIGHT_BATCH_SIZE="4", WORDLIGHT_BEAM_SIZE="20")
    wait_until_ended(settings, job_ids, count=4)
    assert worker.end() == 0
    jobs = [get(settings, job_id) for job_id in job_ids]
    assert {job.status for job in jobs} == {Status.SUCCEEDED, Status.QUEUED}
    assert not redis.zcard(keys.WORKERS)
    heir = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, job_ids)
    heir.end()
    assert_each_succeeded_once(settings, job_ids)


def test_a_lost_or_broken_picture_fails_alone(settings: QueueSettings, redis: Redis, tiny_captioner: Path) -> None:
    lost, broken, *good = submit(settings, 6)
    redis.delete(keys.image(lost))
    redis.set(keys.image(broken), PICTURE[:100])
    worker = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, [lost, broken, *good])
    assert worker.end() == 0
    for job_id in (lost, broken):
        job = get(settings, job_id)
        assert job.status is Status.FAILED
        assert job.error
        assert job.error.type.endswith(":picture-lost")
    assert_each_succeeded_once(settings, good)


@pytest.mark.parametrize("model", ["nowhere", "empty"])
def test_a_worker_without_a_captioner_says_so_in_one_line(settings: QueueSettings, tmp_path: Path, model: str) -> None:
    (tmp_path / "empty").mkdir()
    worker = start_worker(settings, tmp_path / model)
    assert worker.process.wait(60) == 1
    worker.wait_for_line("wordlight: no captioner in")
    assert len(worker.lines) == 2  # the line, and the end
