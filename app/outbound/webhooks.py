"""Tells webhooks of the ends of jobs: signed, tried again for a while, and never from two processes at once.

In: deliveries that are due; out: POST requests, and a log of how they went. A receiver may be told more than once, but
always with the same `webhook-id`. It must not know how jobs end, nor which addresses may be reached.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from time import monotonic
from typing import Final

from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from app.outbound.address_rules import AddressRefused
from app.outbound.http_client import FetchFailed, Outbound
from app.outbound.signing import signed_headers, signing_secret
from jobs.deliveries import Attempt, Deliveries, Receiver
from jobs.job import Job
from jobs.producer import Producer

log = logging.getLogger(__name__)

# So much longer at random, lest receivers that failed together are all tried again together.
_JITTER: Final = 0.2
_AT_ONCE: Final = 32
# What Redis may take before and after a request, which is within the lease.
_LEASE_EXTRA_SECONDS: Final = 30.0


class WebhookEvent(BaseModel):
    """The body of a webhook."""

    type: str = Field(description='"caption." and the status of the job')
    timestamp: datetime = Field(description="when the job ended")
    data: Job


class Webhooks:
    """Sends what is due. Any number of processes may do so on one Redis."""

    def __init__(
        self,
        deliveries: Deliveries,
        producer: Producer,
        outbound: Outbound,
        secret: str,
        *,
        retry_seconds: Sequence[float],
        lease_seconds: float | None = None,
        look_seconds: float = 1.0,
    ) -> None:
        """`secret` is the master secret; the lease, by default, is longer than any try can take.

        `retry_seconds` is how long to wait after each try that failed; after the last there is no other.
        `look_seconds` is how often to look for what is due.
        """
        self._deliveries = deliveries
        self._producer = producer
        self._outbound = outbound
        self._secret = secret
        self._retry_seconds = retry_seconds
        self._lease_seconds = lease_seconds or outbound.total_seconds + _LEASE_EXTRA_SECONDS
        self._look_seconds = look_seconds
        self._failing = False

    async def run(self) -> None:
        """Send until cancelled, through any failure of Redis. What is being sent then is sent again after its lease."""
        sending: set[asyncio.Task[None]] = set()
        this_task = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            while True:
                room = _AT_ONCE - len(sending)
                job_ids = await self._claim(room)
                # Python 3.11's wait_for, which redis-py uses, loses a cancellation that comes as it ends.
                if this_task and this_task.cancelling():
                    raise asyncio.CancelledError
                for job_id in job_ids:
                    task = group.create_task(self._deliver(job_id))
                    sending.add(task)
                    task.add_done_callback(sending.discard)
                if len(job_ids) < room:
                    await asyncio.sleep(self._look_seconds)
                else:  # more may be due
                    await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)

    async def _claim(self, room: int) -> list[str]:
        try:
            job_ids = await self._deliveries.claim(room, self._lease_seconds)
            self._failing = False
            return job_ids
        except RedisError as error:
            if not self._failing:  # once an outage is enough
                log.warning("webhooks wait: %s", error)
            self._failing = True
        except Exception:
            log.exception("webhooks wait")  # this task must not end
        return []

    async def _deliver(self, job_id: str) -> None:
        """Try once; what goes wrong here is due again after the lease."""
        try:
            await self._try(job_id)
        except RedisError as error:
            log.warning("a try to tell the webhook of job %s is not logged: %s", job_id, error)
        except Exception:
            log.exception("a try to tell the webhook of job %s went wrong", job_id)

    async def _try(self, job_id: str) -> None:
        history = await self._deliveries.history(job_id)
        tries = history[-1].tries + 1 if history else 1
        receiver = await self._deliveries.receiver(job_id)
        job = await self._producer.get(job_id, receiver.owner) if receiver else None
        if receiver is None or job is None:
            log.warning("the webhook of job %s is not told of it: the job is kept no longer", job_id)
            gone = Attempt(at=_now(), tries=tries, status=None, error="the job is kept no longer", milliseconds=0)
            await self._deliveries.finish(job_id, gone)
        elif job.status.terminal:
            attempt = await self._send(job, receiver, tries)
            await self._conclude(job_id, attempt)
        # else it was sent back to the queue, and will be due when it ends anew.

    async def _send(self, job: Job, receiver: Receiver, tries: int) -> Attempt:
        """One request, and how it went; `error` is None only if the receiver took it."""
        event = WebhookEvent(type=f"caption.{job.status}", timestamp=job.completed_at or job.created_at, data=job)
        body = event.model_dump_json()
        at, begun, status = _now(), monotonic(), None
        secret = signing_secret(self._secret, receiver.owner)
        headers = {"Content-Type": "application/json", **signed_headers(secret, f"msg_{job.id}", at, body)}
        try:
            status = await self._outbound.post(receiver.url, body.encode(), headers)
            error = _what_is_wrong(status)
        except (AddressRefused, FetchFailed) as failure:
            error = str(failure)
        return Attempt(at=at, tries=tries, status=status, error=error, milliseconds=round((monotonic() - begun) * 1000))

    async def _conclude(self, job_id: str, attempt: Attempt) -> None:
        if attempt.error is None:
            await self._deliveries.finish(job_id, attempt)
        elif attempt.status == HTTPStatus.GONE or attempt.tries > len(self._retry_seconds):
            log.warning("the webhook of job %s is given up at try %d: %s", job_id, attempt.tries, attempt.error)
            await self._deliveries.finish(job_id, attempt)
        else:
            seconds = self._retry_seconds[attempt.tries - 1] * random.uniform(1, 1 + _JITTER)
            await self._deliveries.postpone(job_id, attempt, seconds)


def _what_is_wrong(status: int) -> str | None:
    """Why the receiver's answer does not mean that it took the message; None if it does."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return "the receiver answered with a redirect, which is not followed"
    if status == HTTPStatus.GONE:
        return "the receiver wants no more"
    return f"the receiver answered {status}"


def _now() -> datetime:
    return datetime.now(UTC)
