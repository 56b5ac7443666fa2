"""Webhook deliveries: the list of those that are due, and the log of attempts.

The script that ends a job with a webhook adds it to the list. Every method may raise redis.exceptions.RedisError.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import cast

from pydantic import BaseModel, Field
from redis import asyncio as aioredis

from jobs import keys
from jobs.scripts import read_script, script_args, script_keys
from jobs.settings import QueueSettings


class Attempt(BaseModel):
    """One attempt to deliver a webhook."""

    at: datetime = Field(description="when the attempt began")
    tries: int = Field(description="number of attempts so far, this one included")
    status: int | None = Field(description="HTTP status of the receiver's answer; null without an answer")
    error: str | None = Field(description="what went wrong; null on success")
    milliseconds: int = Field(description="duration of the attempt")


@dataclass(frozen=True, slots=True)
class Receiver:
    """The receiver of a webhook: its URL, and the job's owner ("" without API keys)."""

    url: str
    owner: str


class Deliveries:
    """The deliveries of all web processes."""

    def __init__(self, redis: aioredis.Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._claim = redis.register_script(read_script("claim_deliveries"))

    async def claim(self, limit: int, lease_seconds: float) -> list[str]:
        """Return up to `limit` jobs whose delivery is due; the one that has been due longest comes first.

        They are due again when the lease ends, unless they are finished or postponed before.
        """
        job_ids = await self._claim(
            keys=script_keys(), args=script_args(self._settings, limit, int(lease_seconds * 1000))
        )
        return [job_id.decode() for job_id in cast(list[bytes], job_ids)]

    async def receiver(self, job_id: str) -> Receiver | None:
        """Return the receiver of a job's webhook; None if the job no longer exists."""
        answer = await self._redis.hmget(keys.record(job_id), ["webhook", "owner"])
        url, owner = cast(list[bytes | None], answer)
        return Receiver(url.decode(), (owner or b"").decode()) if url else None

    async def finish(self, job_id: str, attempt: Attempt) -> None:
        """Log the last attempt and take the delivery off the list."""
        async with self._redis.pipeline(transaction=True) as transaction:
            self._log(transaction, job_id, attempt)
            transaction.zrem(keys.WEBHOOKS, job_id)
            await transaction.execute()

    async def postpone(self, job_id: str, attempt: Attempt, seconds: float) -> None:
        """Log the attempt. The next one is due in `seconds`, if the delivery is still on the list."""
        now, microseconds = await self._redis.time()
        due = now * 1000 + microseconds // 1000 + int(seconds * 1000)
        async with self._redis.pipeline(transaction=True) as transaction:
            self._log(transaction, job_id, attempt)
            transaction.zadd(keys.WEBHOOKS, {job_id: due}, xx=True)
            await transaction.execute()

    async def history(self, job_id: str) -> list[Attempt]:
        """Return the attempts so far, oldest first."""
        answer = await self._redis.xrange(keys.deliveries(job_id))
        rows = cast(list[tuple[bytes, dict[bytes, bytes]]], answer)
        return [Attempt.model_validate_json(fields[b"attempt"]) for _, fields in rows]

    def _log(self, transaction: aioredis.client.Pipeline, job_id: str, attempt: Attempt) -> None:
        transaction.xadd(keys.deliveries(job_id), {"attempt": attempt.model_dump_json()})
        transaction.pexpire(keys.deliveries(job_id), self._settings.result_ttl_seconds * 1000)
