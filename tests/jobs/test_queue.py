"""Producer and consumer on a real queue server: no job is lost, and none ends twice."""

import asyncio
import threading

import pytest
from redis import Redis
from support.queueing import ANY, PICTURE, PROBLEM, RESULT, claim_all, get, history, produce, submit, take_over_all

from jobs import keys
from jobs.consumer import Claim, Consumer
from jobs.job import Status
from jobs.producer import File, Picture, Producer, QueueFull
from jobs.settings import QueueSettings

pytestmark = pytest.mark.every_queue_server


def test_a_job_from_submission_to_result(settings: QueueSettings, redis: Redis) -> None:
    (job_id,) = submit(settings)
    assert get(settings, job_id).status is Status.QUEUED
    consumer = Consumer(redis, settings)
    (claim,) = claim_all(consumer, 1)  # although the job is older than the consumer group
    assert (claim.job_id, claim.image, claim.attempt) == (job_id, b"image", 0)
    (started,) = consumer.start([claim])
    assert get(settings, job_id).status is Status.PROCESSING
    assert consumer.succeed(started, RESULT)
    job = get(settings, job_id)
    assert job.status is Status.SUCCEEDED
    assert job.model == RESULT.model
    assert job.attempts == 1
    assert job.completed_at
    assert job.started_at
    assert job.created_at <= job.started_at <= job.completed_at
    assert history(settings, job_id) == ["queued", "processing", "succeeded"]


def test_all_keys_of_a_finished_job_expire(settings: QueueSettings, redis: Redis) -> None:
    (job_id,) = submit(settings)
    consumer = Consumer(redis, settings)
    consumer.succeed(consumer.start(claim_all(consumer, 1))[0], RESULT)
    assert redis.xlen(keys.STREAM) == 0
    assert redis.xpending(keys.STREAM, keys.GROUP)["pending"] == 0
    assert not redis.exists(keys.ACTIVE)
    for key in (keys.record(job_id), keys.events(job_id), keys.image(job_id)):
        assert 0 < redis.ttl(key) <= settings.result_ttl_seconds


def test_concurrent_submissions_never_exceed_max_jobs(settings: QueueSettings) -> None:
    settings = settings.model_copy(update={"max_jobs": 7})

    async def burst(producer: Producer) -> list[str | BaseException]:
        return await asyncio.gather(*(producer.submit(ANY, PICTURE) for _ in range(40)), return_exceptions=True)

    answers = produce(settings, burst)
    assert sum(isinstance(answer, str) for answer in answers) == 7
    assert sum(isinstance(answer, QueueFull) for answer in answers) == 33


def test_jobs_of_a_dead_worker_are_taken_over(settings: QueueSettings, redis: Redis) -> None:
    ids = submit(settings, 5)
    dead, other = Consumer(redis, settings), Consumer(redis, settings)
    begun = dead.start(claim_all(dead, 5))
    claims = take_over_all(other, 5)
    assert {claim.job_id for claim in claims} == set(ids)
    assert {claim.attempt for claim in claims} == {1}
    for started in other.start(claims):
        assert other.succeed(started, RESULT)
    # The first worker was only stopped. Its results are refused and change nothing.
    assert not any(dead.succeed(claim, RESULT) for claim in begun)
    assert not any(dead.fail(claim, PROBLEM) for claim in begun)
    for job_id in ids:
        assert history(settings, job_id) == ["queued", "processing", "processing", "succeeded"]


def test_an_old_attempt_is_refused_while_a_new_one_runs(settings: QueueSettings, redis: Redis) -> None:
    (job_id,) = submit(settings)
    old, new = Consumer(redis, settings), Consumer(redis, settings)
    (first,) = old.start(claim_all(old, 1))
    (second,) = new.start(take_over_all(new, 1))
    assert not old.succeed(first, RESULT)
    assert get(settings, job_id).status is Status.PROCESSING
    assert new.fail(second, PROBLEM)
    assert get(settings, job_id).error == PROBLEM


def test_finish_can_be_repeated_after_a_lost_answer(settings: QueueSettings, redis: Redis) -> None:
    (job_id,) = submit(settings)
    consumer = Consumer(redis, settings)
    (started,) = consumer.start(claim_all(consumer, 1))
    assert consumer.succeed(started, RESULT)
    assert consumer.succeed(started, RESULT)
    assert history(settings, job_id).count("succeeded") == 1


def test_a_heartbeat_prevents_takeover(settings: QueueSettings, redis: Redis) -> None:
    submit(settings, 2)
    alive, other = Consumer(redis, settings), Consumer(redis, settings)
    kept, neglected = claim_all(alive, 2)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(settings.takeover_seconds / 10):
            assert alive.heartbeat([kept.entry]) == {kept.entry}

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        (taken,) = take_over_all(other, 1)
        assert taken.entry == neglected.entry
        assert not other.take_over(10)
    finally:
        stop.set()
        thread.join()
    assert alive.heartbeat([kept.entry, neglected.entry]) == {kept.entry}


def test_a_takeover_scan_gets_past_live_entries(settings: QueueSettings, redis: Redis) -> None:
    settings = settings.model_copy(update={"max_jobs": 2000})
    submit(settings, 150)
    dead, alive, other = (Consumer(redis, settings) for _ in range(3))
    claims = claim_all(dead, 150)
    # All but the last three entries are kept alive.
    live = [claim.entry for claim in claims[:-3]]
    for entry in live:
        redis.xclaim(keys.STREAM, keys.GROUP, alive.name, 0, [entry])
    taken: list[Claim] = []
    while len(taken) < 3:
        alive.heartbeat(live)
        taken += other.take_over(1)  # the smallest scan: ten entries
    assert {claim.entry for claim in taken} == {claim.entry for claim in claims[-3:]}


def test_jobs_that_a_worker_hands_back_are_taken_over_at_once(settings: QueueSettings, redis: Redis) -> None:
    settings = settings.model_copy(update={"takeover_seconds": 3600})
    submit(settings, 2)
    leaving, other = Consumer(redis, settings), Consumer(redis, settings)
    leaving.leave([claim.entry for claim in claim_all(leaving, 2)])
    assert len(other.take_over(10)) == 2


def test_a_job_that_kills_every_worker_becomes_a_dead_letter(settings: QueueSettings, redis: Redis) -> None:
    settings = settings.model_copy(update={"max_attempts": 2, "takeover_seconds": 0.01})
    (job_id,) = submit(settings)
    first = Consumer(redis, settings)
    assert first.start(claim_all(first, 1))
    for expected in (1, 0):
        other = Consumer(redis, settings)
        assert len(other.start(take_over_all(other, 1))) == expected
    job = get(settings, job_id)
    assert job.status is Status.FAILED
    assert job.error
    assert job.error.type.endswith(":poison")
    assert [fields[b"job"].decode() for _, fields in redis.xrange(keys.DEAD)] == [job_id]
    assert redis.xlen(keys.STREAM) == 0


def test_a_job_expires_with_or_without_workers(settings: QueueSettings, redis: Redis) -> None:
    unseen, seen = submit(settings, 2)
    for job_id in (unseen, seen):
        redis.hset(keys.record(job_id), "deadline", 0)
    assert get(settings, unseen).status is Status.EXPIRED
    consumer = Consumer(redis, settings)
    (claim,) = claim_all(consumer, 1)
    assert claim.job_id == seen
    assert consumer.start([claim]) == []
    assert get(settings, seen).status is Status.EXPIRED
    assert redis.xlen(keys.STREAM) == 0


def test_a_lost_consumer_group_is_created_again(settings: QueueSettings, redis: Redis) -> None:
    consumer = Consumer(redis, settings)
    consumer.claim(1)
    submit(settings, 2)
    redis.xgroup_destroy(keys.STREAM, keys.GROUP)
    assert len(claim_all(consumer, 2)) == 2


def test_a_sweep_removes_workers_that_left_long_ago(settings: QueueSettings, redis: Redis) -> None:
    gone = Consumer(redis, settings.model_copy(update={"takeover_seconds": 0.0001}))
    holding = Consumer(redis, settings)
    submit(settings, 2)
    holding_claim = claim_all(holding, 1)
    gone_claim = gone.start(claim_all(gone, 1))
    gone.succeed(gone_claim[0], RESULT)
    while len(redis.xinfo_consumers(keys.STREAM, keys.GROUP)) > 1:
        gone.sweep()
    assert holding.heartbeat([holding_claim[0].entry])


def test_a_sweep_continues_where_the_last_one_ended(settings: QueueSettings, redis: Redis) -> None:
    pictures = [File(Picture(b"%d" % number, 40, 30)) for number in range(500)]
    produce(settings, lambda producer: producer.submit_batch(ANY, pictures))
    consumer = Consumer(redis, settings)
    consumer.claim(1)  # creates the consumer group
    redis.xtrim(keys.STREAM, maxlen=0)
    consumer.sweep(scans=1)
    assert 0 < redis.xlen(keys.STREAM) < 250
    for _ in range(20):
        consumer.sweep(scans=1)
    assert redis.xlen(keys.STREAM) == 500


def test_live_workers_are_counted(settings: QueueSettings, redis: Redis) -> None:
    assert produce(settings, lambda producer: producer.workers()) == 0
    consumer = Consumer(redis, settings)
    consumer.heartbeat([])
    assert produce(settings, lambda producer: producer.workers()) == 1
    consumer.leave([])
    assert produce(settings, lambda producer: producer.workers()) == 0
