"""The queue beyond one job: cached results, cancellation, deletion, idempotency, batches, lists and lost data."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError
from support.lost_answers import losing, one_answer_lost
from support.queueing import ANY, PICTURE, PROBLEM, RESULT, claim_all, get, history, produce, submit, take_over_all

from jobs import keys
from jobs.connection import connect, connect_async
from jobs.consumer import Claim, Consumer
from jobs.ids import issued, new_id
from jobs.inspector import Inspector, NoSuchJob
from jobs.job import Status
from jobs.options import CaptionOptions
from jobs.producer import File, KeyReused, Picture, Producer, QueueFull, Submission
from jobs.settings import QueueSettings


@pytest.fixture
def worker(redis: Redis, settings: QueueSettings) -> Consumer:
    """A worker that has reported its captioner."""
    consumer = Consumer(redis, settings)
    consumer.claim(1)
    consumer.heartbeat([], RESULT.model.version)
    return consumer


def finish_one(worker: Consumer, *, well: bool = True) -> str:
    """Run the next job and return its id."""
    (started,) = worker.start(claim_all(worker, 1))
    assert worker.succeed(started, RESULT) if well else worker.fail(started, PROBLEM)
    return started.job_id


def test_a_repeated_picture_gets_the_cached_result(settings: QueueSettings, worker: Consumer, redis: Redis) -> None:
    (first,) = submit(settings)
    finish_one(worker)
    (again,) = submit(settings)
    assert again != first
    job = get(settings, again)
    assert (job.status, job.cached, job.captions, job.model) == (
        Status.SUCCEEDED,
        True,
        RESULT.captions,
        RESULT.model,
    )
    assert not get(settings, first).cached
    assert history(settings, again) == ["queued", "succeeded"]
    assert redis.xlen(keys.STREAM) == 0


@pytest.mark.parametrize(
    ("submission", "picture"),
    [
        (ANY, Picture(b"another", 40, 30)),
        (ANY, Picture(PICTURE.data, 30, 40)),
        (Submission(CaptionOptions(max_words=5)), PICTURE),
        (Submission(CaptionOptions(), owner="somebody"), PICTURE),
    ],
)
def test_a_different_picture_option_or_owner_misses_the_cache(
    settings: QueueSettings, worker: Consumer, redis: Redis, submission: Submission, picture: Picture
) -> None:
    submit(settings)
    finish_one(worker)
    job_id = produce(settings, lambda producer: producer.submit(submission, picture))
    assert get(settings, job_id, submission.owner).status is Status.QUEUED
    assert redis.xlen(keys.STREAM) == 1


def test_expires_in_does_not_affect_the_cache(settings: QueueSettings, worker: Consumer) -> None:
    submit(settings)
    finish_one(worker)
    (again,) = submit(settings, submission=Submission(CaptionOptions(expires_in=5)))
    assert get(settings, again).cached


def test_a_new_captioner_misses_the_cache_of_the_old_one(settings: QueueSettings, worker: Consumer) -> None:
    submit(settings)
    finish_one(worker)
    worker.heartbeat([], "a newer version")
    (again,) = submit(settings)
    assert get(settings, again).status is Status.QUEUED
    finish_one(worker)  # with the result of the old captioner, which still runs
    (third,) = submit(settings)
    assert get(settings, third).status is Status.QUEUED


def test_failures_are_not_cached(settings: QueueSettings, worker: Consumer) -> None:
    submit(settings)
    finish_one(worker, well=False)
    (again,) = submit(settings)
    assert get(settings, again).status is Status.QUEUED


def test_twins_share_one_run(settings: QueueSettings, worker: Consumer, redis: Redis) -> None:
    ids = submit(settings, 3)
    assert redis.xlen(keys.STREAM) == 1
    assert finish_one(worker) == ids[0]
    assert [get(settings, job_id).cached for job_id in ids] == [False, True, True]
    for job_id in ids[1:]:
        assert get(settings, job_id).captions == RESULT.captions
        assert history(settings, job_id) == ["queued", "succeeded"]
    assert not redis.exists(keys.ACTIVE)


def test_twins_share_a_failure_that_is_not_cached(settings: QueueSettings, worker: Consumer) -> None:
    ids = submit(settings, 2)
    finish_one(worker, well=False)
    assert [get(settings, job_id).error for job_id in ids] == [PROBLEM, PROBLEM]
    (again,) = submit(settings)
    assert get(settings, again).status is Status.QUEUED


@pytest.mark.parametrize("end", ["cancel", "delete", "expire"])
def test_a_twin_replaces_a_leader_that_was_canceled_deleted_or_expired(
    settings: QueueSettings, worker: Consumer, redis: Redis, end: str
) -> None:
    first = submit(settings)[0]
    second, third = sorted(submit(settings, 2))
    if end == "cancel":
        produce(settings, lambda producer: producer.cancel(first))
    elif end == "delete":
        produce(settings, lambda producer: producer.delete(first))
    else:
        redis.hset(keys.record(first), "deadline", 0)
        assert get(settings, first).status is Status.EXPIRED
    (fourth,) = submit(settings)  # joins the new leader
    assert finish_one(worker) == second
    assert [get(settings, job_id).cached for job_id in (second, third, fourth)] == [False, True, True]
    assert redis.xlen(keys.STREAM) == 0


def test_a_canceled_twin_does_not_get_the_result(settings: QueueSettings, worker: Consumer) -> None:
    first, second = submit(settings, 2)
    produce(settings, lambda producer: producer.cancel(second))
    assert finish_one(worker) == first
    assert history(settings, second) == ["queued", "canceled"]


def test_a_queued_job_that_is_canceled_is_never_run(settings: QueueSettings, redis: Redis) -> None:
    (job_id,) = submit(settings)
    for _ in range(2):
        produce(settings, lambda producer: producer.cancel(job_id))
    assert history(settings, job_id) == ["queued", "canceled"]
    assert redis.xlen(keys.STREAM) == 0


def test_a_claimed_job_that_is_canceled_is_not_started(settings: QueueSettings, worker: Consumer) -> None:
    (job_id,) = submit(settings)
    claims = claim_all(worker, 1)
    produce(settings, lambda producer: producer.cancel(job_id))
    assert worker.start(claims) == []


def test_workers_learn_which_jobs_have_followers(settings: QueueSettings, worker: Consumer, redis: Redis) -> None:
    waiting, running, nobodys = (
        submit(settings, submission=Submission(CaptionOptions(max_words=words)))[0] for words in (3, 4, 5)
    )
    produce(settings, lambda producer: producer.follow(waiting))
    claims = worker.start(claim_all(worker, 3))
    assert worker.interest(claims).followed == {claims[0].entry}
    produce(settings, lambda producer: producer.follow(running))
    assert worker.interest(claims).followed == {claims[0].entry, claims[1].entry}
    for claim in claims:
        worker.succeed(claim, RESULT)
    for job_id in (nobodys, "nothing"):  # too late: no record is created again
        produce(settings, lambda producer, job_id=job_id: producer.follow(job_id))  # type: ignore[misc]
        assert not redis.hexists(keys.record(job_id), "followed")


def test_results_of_a_canceled_job_are_refused(settings: QueueSettings, worker: Consumer) -> None:
    job_id, other = submit(settings)[0], submit(settings, submission=Submission(CaptionOptions(max_words=3)))[0]
    started = worker.start(claim_all(worker, 2))
    assert worker.interest(started).unwanted == set()
    assert worker.publish_words([(claim, 0, ["{}"]) for claim in started]) == set()
    produce(settings, lambda producer: producer.cancel(job_id))
    assert worker.interest(started).unwanted == {started[0].entry}
    assert worker.publish_words([(claim, 1, ["{}"]) for claim in started]) == {started[0].entry}
    assert [worker.succeed(claim, RESULT) for claim in started] == [False, True]
    assert history(settings, job_id) == ["queued", "processing", "word", "canceled"]
    assert history(settings, other) == ["queued", "processing", "word", "word", "succeeded"]


def test_canceling_a_finished_job_changes_nothing(settings: QueueSettings, worker: Consumer) -> None:
    (job_id,) = submit(settings)
    finish_one(worker)
    produce(settings, lambda producer: producer.cancel(job_id))
    assert get(settings, job_id).status is Status.SUCCEEDED


@pytest.mark.parametrize("when", ["queued", "processing", "succeeded"])
def test_a_deleted_job_leaves_no_keys(settings: QueueSettings, worker: Consumer, redis: Redis, when: str) -> None:
    (job_id,) = submit(settings)
    if when == "processing":
        worker.start(claim_all(worker, 1))
    elif when == "succeeded":
        finish_one(worker)
    produce(settings, lambda producer: producer.delete(job_id))
    assert not [key for key in redis.scan_iter("*") if job_id.encode() in key]
    assert redis.xlen(keys.STREAM) == 0
    assert not redis.exists(keys.ACTIVE)
    assert produce(settings, lambda producer: producer.latest("", 10)) == []
    assert produce(settings, lambda producer: producer.was_issued(job_id))
    (again,) = submit(settings)
    assert get(settings, again).status is Status.QUEUED


def test_concurrent_requests_with_one_idempotency_key_create_one_job(settings: QueueSettings, redis: Redis) -> None:
    submission = replace(ANY, idempotency="k", fingerprint="f")

    async def burst(producer: Producer) -> list[str]:
        return await asyncio.gather(*(producer.submit(submission, Picture(bytes([n]), 1, 1)) for n in range(9)))

    assert len(set(produce(settings, burst))) == 1
    assert redis.xlen(keys.STREAM) == 1


def test_an_idempotency_key_cannot_be_reused_for_another_request(settings: QueueSettings) -> None:
    (job_id,) = submit(settings, submission=replace(ANY, idempotency="k", fingerprint="f"))
    with pytest.raises(KeyReused):
        submit(settings, submission=replace(ANY, idempotency="k", fingerprint="another"))
    other = produce(
        settings, lambda p: p.submit(replace(ANY, idempotency="k", fingerprint="another", owner="o"), PICTURE)
    )
    assert other != job_id


def test_an_idempotency_key_can_be_reused_after_its_job_is_deleted(settings: QueueSettings) -> None:
    submission = replace(ANY, idempotency="k", fingerprint="f")
    (job_id,) = submit(settings, submission=submission)
    produce(settings, lambda producer: producer.delete(job_id))
    assert submit(settings, submission=submission) != [job_id]


def test_a_batch_is_accepted_whole_or_not_at_all(settings: QueueSettings, redis: Redis) -> None:
    settings = settings.model_copy(update={"max_jobs": 3})
    files = [File(Picture(bytes([n]), 1, 1), f"{n}.jpg") for n in range(3)]
    with pytest.raises(QueueFull):
        produce(settings, lambda producer: producer.submit_batch(ANY, [*files, File(PICTURE)]))
    assert not redis.exists(keys.ACTIVE, keys.STREAM)
    # A file without a picture does not count.
    batch_id = produce(settings, lambda producer: producer.submit_batch(ANY, [*files, File(PROBLEM, "bad.txt")]))
    batch = produce(settings, lambda producer: producer.batch(batch_id))
    assert batch
    assert [(job.name, job.status, job.error) for job in batch.jobs] == [
        ("0.jpg", Status.QUEUED, None),
        ("1.jpg", Status.QUEUED, None),
        ("2.jpg", Status.QUEUED, None),
        ("bad.txt", Status.FAILED, PROBLEM),
    ]
    assert not batch.done
    assert batch.counts[Status.QUEUED] == 3
    assert produce(settings, lambda producer: producer.batch(batch_id, "another")) is None


def test_cached_results_are_accepted_when_the_queue_is_full(settings: QueueSettings, worker: Consumer) -> None:
    settings = settings.model_copy(update={"max_jobs": 1})
    submit(settings)
    finish_one(worker)
    produce(settings, lambda producer: producer.submit(ANY, Picture(b"fills the queue", 1, 1)))
    with pytest.raises(QueueFull):
        produce(settings, lambda producer: producer.submit(ANY, Picture(b"one too many", 1, 1)))
    (again,) = submit(settings)
    assert get(settings, again).cached


def test_an_owner_sees_only_its_own_jobs(settings: QueueSettings) -> None:
    theirs = produce(settings, lambda producer: producer.submit(replace(ANY, owner="them"), PICTURE))
    (ours,) = submit(settings)
    assert produce(settings, lambda producer: producer.get(theirs)) is None
    assert produce(settings, lambda producer: producer.get(theirs, "them"))
    assert [job.id for job in produce(settings, lambda producer: producer.latest("", 10))] == [ours]
    assert not produce(settings, lambda producer: producer.was_issued(theirs))
    assert produce(settings, lambda producer: producer.was_issued(theirs, "them"))


def test_a_list_continues_after_the_last_job_of_a_page(settings: QueueSettings) -> None:
    ids = submit(settings, 7)

    async def walk(producer: Producer) -> list[str]:
        seen: list[str] = []
        while page := await producer.latest("", 3, seen[-1] if seen else None):
            seen += [job.id for job in page]
        return seen

    produce(settings, lambda producer: producer.delete(ids[3]))
    assert sorted(produce(settings, walk)) == sorted({*ids} - {ids[3]})
    # Ids are in the order of time, to the millisecond.
    seen = produce(settings, walk)
    assert [job_id[:12] for job_id in seen] == sorted([job_id[:12] for job_id in seen], reverse=True)


def test_old_pictures_and_list_entries_are_cleaned_up(settings: QueueSettings, redis: Redis) -> None:
    settings = settings.model_copy(update={"result_ttl_seconds": 1, "max_pictures": 2})
    worker_with_short_ttl = Consumer(redis, settings)
    ids = []
    for n in range(5):
        ids.append(produce(settings, lambda producer, n=n: producer.submit(ANY, Picture(bytes([n]), 1, 1))))
        finish_one(worker_with_short_ttl)
    assert [bool(redis.exists(keys.image(job_id))) for job_id in ids] == [False, False, False, True, True]
    while redis.exists(*map(keys.record, ids)):
        redis.wait(0, 50)  # the server waits; the records expire by themselves
    produce(settings, lambda producer: producer.submit(ANY, Picture(b"last", 1, 1)))
    finish_one(worker_with_short_ttl)
    left = {key.decode().removeprefix(keys.TAG).partition(":")[0] for key in redis.scan_iter("*")}
    assert redis.zcard(keys.owned("")) == 1
    assert left <= {"jobs", "workers", "model", "metrics", "secret", "job", "image", "events", "owner", "expiring"} | {
        "pictures",
        "cache",
    }


@pytest.mark.parametrize("lost", ["stream", "group", "entry"])
def test_jobs_that_the_stream_has_lost_are_requeued(
    settings: QueueSettings, worker: Consumer, redis: Redis, lost: str
) -> None:
    waiting = submit(settings)[0]
    begun_id = produce(settings, lambda producer: producer.submit(ANY, Picture(b"begun", 1, 1)))
    claims = {claim.job_id: claim for claim in claim_all(worker, 2)}
    (begun,) = worker.start([claims[begun_id]])
    if lost == "stream":
        redis.delete(keys.STREAM)
    elif lost == "group":
        redis.xgroup_destroy(keys.STREAM, keys.GROUP)
    else:
        redis.xdel(keys.STREAM, *(claim.entry for claim in claims.values()))
    worker.sweep()
    assert not worker.start([begun])
    assert not worker.succeed(begun, RESULT) or lost == "group"
    started = worker.start(claim_all(worker, 2)) if lost != "group" else worker.start(claim_all(worker, 1))
    for claim in started:
        assert worker.succeed(claim, RESULT)
    for job_id in (waiting, begun_id):
        assert get(settings, job_id).status is Status.SUCCEEDED
        assert history(settings, job_id).count("succeeded") == 1


def test_entries_deleted_while_pending_are_not_stuck(settings: QueueSettings, worker: Consumer, redis: Redis) -> None:
    (job_id,) = submit(settings)
    (claim,) = claim_all(worker, 1)
    redis.xdel(keys.STREAM, claim.entry)
    other = Consumer(redis, settings)
    assert other.take_over(10) == []
    other.sweep()
    (again,) = other.start(claim_all(other, 1))
    assert other.succeed(again, RESULT)
    assert get(settings, job_id).status is Status.SUCCEEDED


def test_a_sweep_expires_jobs(settings: QueueSettings, worker: Consumer, redis: Redis) -> None:
    (job_id,) = submit(settings)
    redis.hset(keys.record(job_id), "deadline", 0)
    worker.sweep()
    assert redis.hget(keys.record(job_id), "status") == b"expired"


def test_two_workers_that_take_over_at_once_share_the_jobs(
    settings: QueueSettings, worker: Consumer, redis: Redis
) -> None:
    ids = [produce(settings, lambda p, n=n: p.submit(ANY, Picture(bytes([n]), 1, 1))) for n in range(20)]
    worker.leave([claim.entry for claim in claim_all(worker, 20)])
    others = Consumer(redis, settings), Consumer(redis, settings)
    taken: list[str] = []
    while len(taken) < 20:
        for other in others:
            taken += [claim.job_id for claim in other.start(other.take_over(3))]
    assert sorted(taken) == sorted(ids)


def test_ids_are_recognised_by_tother_mac() -> None:
    made = new_id(b"secret", "owner")
    assert issued(b"secret", "owner", made)
    assert not issued(b"secret", "another", made)
    assert not issued(b"another", "owner", made)
    for other in ("", "x", made[:-1], made.upper(), "0" * 36, made[:-2] + ("00" if made[-2:] != "00" else "11")):
        assert not issued(b"secret", "owner", other)


def test_no_word_is_published_twice(settings: QueueSettings, worker: Consumer) -> None:
    (job_id,) = submit(settings)
    (claim,) = worker.start(claim_all(worker, 1))
    for before, words in ((0, ["1", "2"]), (0, ["1", "2"]), (1, ["2", "3"]), (3, ["4"])):
        worker.publish_words([(claim, before, words)])
    events = produce(settings, lambda producer: producer.events(job_id, "0"))
    assert [event.data for event in events if event.name == "word"] == ["1", "2", "3", "4"]


def test_a_retried_dead_letter_becomes_a_new_job(settings: QueueSettings, redis: Redis) -> None:
    settings = settings.model_copy(update={"max_attempts": 1, "takeover_seconds": 0.01, "result_ttl_seconds": 1})
    submission = replace(ANY, owner="o", request_id="r")
    (job_id,) = [produce(settings, lambda p: p.submit(submission, PICTURE))]
    first, second = Consumer(redis, settings), Consumer(redis, settings)
    assert first.start(claim_all(first, 1))
    assert second.start(take_over_all(second, 1)) == []
    inspector = Inspector(redis, settings)
    (letter,) = inspector.dead(10)
    assert (letter.id, letter.status, letter.attempts, letter.owner, letter.request_id) == (
        job_id,
        "failed",
        1,
        "o",
        "r",
    )
    assert "1 attempts" in letter.reason
    assert redis.ttl(keys.record(job_id)) > 60  # longer than results
    new = inspector.send_back(job_id)
    assert [row.id for row in inspector.active(10)] == [new]
    (claim,) = claim_all(second, 1)
    assert (claim.job_id, claim.image, claim.request_id, claim.options) == (new, PICTURE.data, "r", submission.options)
    job = produce(settings, lambda producer: producer.get(job_id, "o"))
    assert job
    assert job.status is Status.FAILED
    assert inspector.counts() == {"active": 1, "dead": 0, "workers": 0}
    with pytest.raises(NoSuchJob):
        inspector.send_back(job_id)


@pytest.fixture
def lossy(settings: QueueSettings) -> Iterator[Redis]:
    """A client that may lose answers."""
    with losing(connect(settings.redis_url)) as client:
        yield client


def kill_its_workers(settings: QueueSettings, redis: Redis) -> tuple[Consumer, Claim]:
    """Make the next job a dead letter; return the worker that started its last attempt, and that attempt."""
    hasty = settings.model_copy(update={"takeover_seconds": 0.01, "max_attempts": 1})
    first, second = Consumer(redis, hasty), Consumer(redis, hasty)
    (started,) = first.start(claim_all(first, 1))
    assert second.start(take_over_all(second, 1)) == []
    return first, started


def test_the_result_of_a_twin_that_replaced_its_leader_is_cached(
    settings: QueueSettings, worker: Consumer, redis: Redis
) -> None:
    first = submit(settings, 2)[0]
    produce(settings, lambda producer: producer.cancel(first))
    finish_one(worker)
    (again,) = submit(settings)
    assert get(settings, again).cached
    (cache,) = redis.scan_iter(f"{keys.TAG}cache:*")
    assert redis.ttl(cache) > 0


def test_the_result_of_a_replacing_twin_is_not_cached_if_another_captioner_ran_it(
    settings: QueueSettings, worker: Consumer
) -> None:
    worker.heartbeat([], "a newer version")
    first = submit(settings, 2)[0]
    produce(settings, lambda producer: producer.cancel(first))
    finish_one(worker)  # with the result of the old captioner
    (again,) = submit(settings)
    assert get(settings, again).status is Status.QUEUED


def test_a_twin_of_a_lost_job_is_run_itself(settings: QueueSettings, worker: Consumer, redis: Redis) -> None:
    first, second = submit(settings, 2)
    redis.delete(keys.record(first))
    worker.sweep()
    assert worker.start(claim_all(worker, 1)) == []  # the entry of the lost job
    assert finish_one(worker) == second


@pytest.mark.slow
def test_thousands_of_jobs_at_once(settings: QueueSettings, worker: Consumer, redis: Redis) -> None:
    settings = settings.model_copy(update={"max_jobs": 9000})
    different = [File(Picture(n.to_bytes(2, "big"), 1, 1)) for n in range(9000)]
    produce(settings, lambda producer: producer.submit_batch(ANY, different))
    entries = [claim.entry for claim in claim_all(worker, 9000)]
    assert worker.heartbeat(entries) == set(entries)
    worker.leave(entries)
    redis.flushall()
    worker.sweep()
    worker.heartbeat([], RESULT.model.version)
    batch_id = produce(settings, lambda producer: producer.submit_batch(ANY, [File(PICTURE)] * 9000))
    finish_one(worker)
    batch = produce(settings, lambda producer: producer.batch(batch_id))
    assert batch
    assert batch.counts[Status.SUCCEEDED] == 9000


def test_a_lost_answer_costs_no_attempt(settings: QueueSettings, lossy: Redis) -> None:
    (job_id,) = submit(settings)
    worker = Consumer(lossy, settings.model_copy(update={"max_attempts": 1}))
    claims = claim_all(worker, 1)
    worker.start([])
    with one_answer_lost():
        (started,) = worker.start(claims)
    assert worker.succeed(started, RESULT)
    assert history(settings, job_id) == ["queued", "processing", "succeeded"]


@pytest.mark.parametrize("lost", ["stream", "group"])
def test_a_worker_holds_nothing_after_the_stream_or_group_is_lost(
    settings: QueueSettings, worker: Consumer, redis: Redis, lost: str
) -> None:
    submit(settings)
    (claim,) = claim_all(worker, 1)
    if lost == "stream":
        redis.delete(keys.STREAM)
    else:
        redis.xgroup_destroy(keys.STREAM, keys.GROUP)
    assert worker.heartbeat([claim.entry]) == set()
    assert worker.start([claim]) == []
    worker.leave([claim.entry])


def test_a_late_result_of_a_dead_letter_is_refused(settings: QueueSettings, redis: Redis) -> None:
    (job_id,) = submit(settings)
    late, attempt = kill_its_workers(settings, redis)
    assert not late.fail(attempt, PROBLEM)
    assert get(settings, job_id).error != PROBLEM


def test_the_picture_of_a_dead_letter_is_kept_beyond_max_pictures(settings: QueueSettings, redis: Redis) -> None:
    settings = settings.model_copy(update={"max_pictures": 0})
    (job_id,) = submit(settings)
    kill_its_workers(settings, redis)
    assert redis.get(keys.image(job_id)) == PICTURE.data
    assert redis.ttl(keys.image(job_id)) > settings.result_ttl_seconds


def test_deleting_a_job_deletes_its_dead_letter(settings: QueueSettings, redis: Redis) -> None:
    (job_id,) = submit(settings)
    kill_its_workers(settings, redis)
    produce(settings, lambda producer: producer.delete(job_id))
    assert list(Inspector(redis, settings).dead(10)) == []


def test_a_dead_letter_is_retried_once_when_the_answer_is_lost(
    settings: QueueSettings, redis: Redis, lossy: Redis
) -> None:
    (job_id,) = submit(settings)
    kill_its_workers(settings, redis)
    inspector = Inspector(lossy, settings)
    assert len(list(inspector.dead(10))) == 1
    with pytest.raises(NoSuchJob):
        inspector.send_back("another")
    with one_answer_lost():
        new = inspector.send_back(job_id)
    assert [row.id for row in inspector.active(10)] == [new]


def test_processes_agree_on_a_new_secret_after_redis_has_lost_it(settings: QueueSettings, redis: Redis) -> None:
    async def act() -> None:
        async with connect_async(settings.redis_url) as one, connect_async(settings.redis_url) as other:
            producer, newcomer = Producer(one, settings), Producer(other, settings)
            await producer.secret()
            redis.flushall()
            secret = await newcomer.secret()
            job_id = await producer.submit(ANY, PICTURE)
            assert await newcomer.was_issued(job_id)
            assert await producer.secret() == secret

    asyncio.run(act())


def test_a_sweep_cleans_up_lists_when_no_job_ends(settings: QueueSettings, redis: Redis) -> None:
    settings = settings.model_copy(update={"result_ttl_seconds": 1})
    worker_with_short_ttl = Consumer(redis, settings)
    (job_id,) = submit(settings)
    finish_one(worker_with_short_ttl)
    while redis.exists(keys.record(job_id)):
        redis.wait(0, 50)
    worker_with_short_ttl.sweep()
    assert not redis.exists(keys.owned(""), keys.EXPIRING, keys.PICTURES)


def test_when_memory_is_full_jobs_are_refused_but_running_ones_end(
    settings: QueueSettings, worker: Consumer, redis: Redis
) -> None:
    running, waiting = (produce(settings, lambda p, n=n: p.submit(ANY, Picture(bytes([n]), 1, 1))) for n in range(2))
    claims = claim_all(worker, 1)
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            submit(settings)
        (started,) = worker.start(claims)
        assert worker.heartbeat([started.entry], RESULT.model.version) == {started.entry}
        assert worker.publish_words([(started, 0, ["{}"])]) == set()
        assert worker.succeed(started, RESULT)
        produce(settings, lambda producer: producer.cancel(waiting))
    finally:
        redis.config_set("maxmemory", 0)
    assert history(settings, running) == ["queued", "processing", "word", "succeeded"]
    assert get(settings, waiting).status is Status.CANCELED
    assert redis.zcard(keys.owned("")) == 2


def test_a_job_of_version_0_1_0_is_run(settings: QueueSettings, worker: Consumer, redis: Redis) -> None:
    (job_id,) = submit(settings)
    redis.hdel(keys.record(job_id), "options", "owner", "request")
    (claim,) = claim_all(worker, 1)
    assert claim.options == CaptionOptions()
    (started,) = worker.start([claim])
    assert worker.succeed(started, RESULT)
    assert get(settings, job_id).options == CaptionOptions()
