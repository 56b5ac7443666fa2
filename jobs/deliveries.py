"""The webhook deliveries that are due, and the log of the tries that were made.

A job that ends with a webhook is put on the list by the script that ends it. In: how tries went; out: jobs whose turn
it is. It must not know what is sent, nor how. Every method may raise redis.exceptions.RedisError.
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
    """One try to tell a webhook of a job's end."""

    at: datetime = Field(description="when it began")
    tries: int = Field(description="how many tries there have been with this one")
    status: int | None = Field(description="what the receiver answered, if it did")
    error: str | None = Field(description="what went wrong, if something did")
    milliseconds: int = Field(description="how long it took")


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who wants to be told of a job's end: the owner of the job ("" where there are no owners), at a URL."""

    url: str
    owner: str


class Deliveries:
    """What any web process knows of the deliveries of all."""

    def __init__(self, redis: aioredis.Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._claim = redis.register_script(read_script("claim_deliveries"))

    async def claim(self, limit: int, lease_seconds: float) -> list[str]:
        """Up to `limit` jobs whose delivery is due, the longest due first.

        They are due again when the lease is over, unless they were finished or postponed before.
        """
        job_ids = await self._claim(
            keys=script_keys(), args=script_args(self._settings, limit, int(lease_seconds * 1000))
        )
        return [job_id.decode() for job_id in cast(list[bytes], job_ids)]

    async def receiver(self, job_id: str) -> Receiver | None:
        """Whom to tell; None when the job is there no more."""
        answer = await self._redis.hmget(keys.record(job_id), ["webhook", "owner"])
        url, owner = cast(list[bytes | None], answer)
        return Receiver(url.decode(), (owner or b"").decode()) if url else None

    async def finish(self, job_id: str, attempt: Attempt) -> None:
        """Log the try, after which there will be no other."""
        async with self._redis.pipeline(transaction=True) as transaction:
            self._log(transaction, job_id, attempt)
            transaction.zrem(keys.WEBHOOKS, job_id)
            await transaction.execute()

    async def postpone(self, job_id: str, attempt: Attempt, seconds: float) -> None:
        """Log the try, and let the next be due in `seconds`, if the delivery is still on the list."""
        now, microseconds = await self._redis.time()
        due = now * 1000 + microseconds // 1000 + int(seconds * 1000)
        async with self._redis.pipeline(transaction=True) as transaction:
            self._log(transaction, job_id, attempt)
            transaction.zadd(keys.WEBHOOKS, {job_id: due}, xx=True)
            await transaction.execute()

    async def history(self, job_id: str) -> list[Attempt]:
        """The tries made so far, the first one first."""
        answer = await self._redis.xrange(keys.deliveries(job_id))
        rows = cast(list[tuple[bytes, dict[bytes, bytes]]], answer)
        return [Attempt.model_validate_json(fields[b"attempt"]) for _, fields in rows]

    def _log(self, transaction: aioredis.client.Pipeline, job_id: str, attempt: Attempt) -> None:
        transaction.xadd(keys.deliveries(job_id), {"attempt": attempt.model_dump_json()})
        transaction.pexpire(keys.deliveries(job_id), self._settings.result_ttl_seconds * 1000)
