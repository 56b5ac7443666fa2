"""Webhooks: signs and delivers a POST request for each job that has ended, and retries failed deliveries.

Only one process at a time delivers a job's webhook. A receiver may get it more than once, always with the same
`webhook-id`. Signatures follow Standard Webhooks.
"""

import asyncio
import base64
import hmac
import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from time import monotonic
from typing import Final

from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from standardwebhooks import Webhook

from app.outbound.address_rules import AddressRefused
from app.outbound.http_client import FetchFailed, OutboundClient
from app.settings import WEBHOOK_SECRET_PREFIX, webhook_key
from jobs.deliveries import Attempt, Deliveries, Receiver
from jobs.job import Job
from jobs.producer import Producer

log = logging.getLogger(__name__)

# Random share added to each delay, so that deliveries that failed together are not all retried together.
_JITTER: Final = 0.2
_MOST_CONCURRENT: Final = 32
# The lease covers the request and, with this, the calls to Redis before and after it.
_LEASE_EXTRA_SECONDS: Final = 30.0


class WebhookEvent(BaseModel):
    """The body of a webhook."""

    type: str = Field(description='"caption." and the status of the job')
    timestamp: datetime = Field(description="when the job ended")
    data: Job


class Webhooks:
    """Delivers due webhooks. Any number of processes may share one Redis."""

    def __init__(
        self,
        deliveries: Deliveries,
        producer: Producer,
        outbound: OutboundClient,
        secret: str,
        *,
        retry_seconds: Sequence[float],
        lease_seconds: float | None = None,
        poll_seconds: float = 1.0,
    ) -> None:
        """Create a sender; `run` starts it.

        `secret` is the service's secret. `retry_seconds` are the delays after failed attempts; after the last one,
        delivery stops. `poll_seconds` is the interval between two searches for due webhooks. `lease_seconds` defaults
        to longer than any attempt can take.
        """
        self._deliveries = deliveries
        self._producer = producer
        self._outbound = outbound
        self._secret = secret
        self._retry_seconds = retry_seconds
        self._lease_seconds = lease_seconds or outbound.total_seconds + _LEASE_EXTRA_SECONDS
        self._poll_seconds = poll_seconds
        self._failing = False

    async def run(self) -> None:
        """Deliver webhooks until cancelled; survives failures of Redis.

        Deliveries that are cancelled are repeated when their lease ends.
        """
        sending: set[asyncio.Task[None]] = set()
        this_task = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            while True:
                room = _MOST_CONCURRENT - len(sending)
                job_ids = await self._claim(room)
                # In Python 3.11, asyncio.wait_for, which redis-py uses, can swallow a cancellation at its end.
                if this_task and this_task.cancelling():
                    raise asyncio.CancelledError
                for job_id in job_ids:
                    task = group.create_task(self._deliver(job_id))
                    sending.add(task)
                    task.add_done_callback(sending.discard)
                if len(job_ids) < room:
                    await asyncio.sleep(self._poll_seconds)
                else:  # more webhooks may be due
                    await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)

    async def _claim(self, room: int) -> list[str]:
        try:
            job_ids = await self._deliveries.claim(room, self._lease_seconds)
            self._failing = False
            return job_ids
        except RedisError as error:
            if not self._failing:  # log an outage once
                log.warning("Cannot look up due webhooks: %s", error)
            self._failing = True
        except Exception:
            log.exception("Cannot look up due webhooks")  # keep this task alive
        return []

    async def _deliver(self, job_id: str) -> None:
        """Attempt one delivery. After an unexpected failure it is due again when the lease ends."""
        try:
            await self._try(job_id)
        except RedisError as error:
            log.warning("Cannot record a webhook delivery of job %s: %s", job_id, error)
        except Exception:
            log.exception("Webhook delivery of job %s failed unexpectedly", job_id)

    async def _try(self, job_id: str) -> None:
        history = await self._deliveries.history(job_id)
        tries = history[-1].tries + 1 if history else 1
        receiver = await self._deliveries.receiver(job_id)
        job = await self._producer.get(job_id, receiver.owner) if receiver else None
        if receiver is None or job is None:
            log.warning("Job %s expired before its webhook was delivered", job_id)
            gone = Attempt(at=_now(), tries=tries, status=None, error="the job has expired", milliseconds=0)
            await self._deliveries.finish(job_id, gone)
        elif job.status.terminal:
            attempt = await self._send(job, receiver, tries)
            await self._conclude(job_id, attempt)
        # Otherwise an operator put the job back into the queue; its webhook is due when the job ends again.

    async def _send(self, job: Job, receiver: Receiver, tries: int) -> Attempt:
        """Send one request. The `error` of the attempt is None only if the receiver accepted the message."""
        event = WebhookEvent(type=f"caption.{job.status}", timestamp=job.completed_at or job.created_at, data=job)
        body = event.model_dump_json()
        at, begun, status = _now(), monotonic(), None
        secret = signing_secret(self._secret, receiver.owner)
        headers = {"Content-Type": "application/json", **_signed_headers(secret, f"msg_{job.id}", at, body)}
        try:
            status = await self._outbound.post(receiver.url, body.encode(), headers)
            error = _delivery_error(status)
        except (AddressRefused, FetchFailed) as failure:
            error = str(failure)
        return Attempt(at=at, tries=tries, status=status, error=error, milliseconds=round((monotonic() - begun) * 1000))

    async def _conclude(self, job_id: str, attempt: Attempt) -> None:
        if attempt.error is None:
            await self._deliveries.finish(job_id, attempt)
        elif attempt.status == HTTPStatus.GONE or attempt.tries > len(self._retry_seconds):
            log.warning("Webhook of job %s not delivered after %d attempts: %s", job_id, attempt.tries, attempt.error)
            await self._deliveries.finish(job_id, attempt)
        else:
            seconds = self._retry_seconds[attempt.tries - 1] * random.uniform(1, 1 + _JITTER)
            await self._deliveries.postpone(job_id, attempt, seconds)


def signing_secret(service_secret: str, owner: str) -> str:
    """The secret that verifies an owner's webhooks: the service's own for owner "", otherwise one derived from it."""
    if not owner:
        return service_secret
    derived = hmac.digest(webhook_key(service_secret), f"webhook:{owner}".encode(), "sha256")
    return WEBHOOK_SECRET_PREFIX + base64.b64encode(derived).decode()


def _signed_headers(secret: str, message_id: str, at: datetime, body: str) -> dict[str, str]:
    """The three Standard Webhooks headers of a message sent `at` (with its time zone)."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body),
    }


def _delivery_error(status: int) -> str | None:
    """Explain why a status code means that the receiver did not accept the message; None if it did."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return "the receiver answered with a redirect; redirects are not followed"
    if status == HTTPStatus.GONE:
        return "the receiver answered 410: it wants no more webhooks"
    return f"the receiver answered {status}"


def _now() -> datetime:
    return datetime.now(UTC)
