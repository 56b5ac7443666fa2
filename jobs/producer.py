"""The half of the queue that `app` holds: put a job in, look at it, follow it.

In: working images; out: jobs and their events. It must not know of HTTP, nor of how workers take jobs.
"""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

from redis import asyncio as aioredis

from jobs import keys
from jobs.job import Job, Status
from jobs.scripts import read_script, script_args, script_keys
from jobs.settings import QueueSettings


class QueueFull(Exception):
    """As many jobs wait or run as may; nothing was taken in."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; `id` is durable, and later events have greater ones."""

    id: str
    status: Status


class Producer:
    """Submits jobs and reads them back. Every method may raise redis.exceptions.RedisError."""

    def __init__(self, redis: aioredis.Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._submit = redis.register_script(read_script("submit"))
        self._expire = redis.register_script(read_script("expire"))

    async def submit(self, image: bytes, width: int, height: int) -> Job:
        """Take in a working image whose upright original measures `width` x `height`; returns the queued job.

        Raises QueueFull. When this returns, the job is in Redis, and a worker will see it.
        """
        # Unguessable: whoever knows the id may read the result.
        job_id = uuid.uuid4().hex
        settings = self._settings
        created = await self._submit(
            keys=script_keys(job_id),
            args=script_args(
                job_id,
                settings.result_ttl_seconds,
                settings.max_jobs,
                image,
                width,
                height,
                settings.job_lifetime_seconds * 1000,
            ),
        )
        if not created:
            raise QueueFull
        return Job.queued(job_id, int(created), width, height)

    async def get(self, job_id: str) -> Job | None:
        """The job as it is now; None if there is none of that id (any more)."""
        record = await self._record(job_id)
        if not record:
            return None
        if record[b"status"] == b"queued":
            expired = await self._expire(
                keys=script_keys(job_id), args=script_args(job_id, self._settings.result_ttl_seconds)
            )
            if expired:
                record = await self._record(job_id)
        return Job.from_record(job_id, record)

    async def events(self, job_id: str, after: str) -> list[Event]:
        """What happened to the job since the event `after` ("0" for all of it), the oldest first."""
        answer = await self._redis.xrange(keys.events(job_id), min=f"({after}")
        rows = cast(list[tuple[bytes, dict[bytes, bytes]]], answer)
        return [Event(entry.decode(), Status(fields[b"status"].decode())) for entry, fields in rows]

    async def notices(self) -> AsyncIterator[str | None]:
        """Ids of jobs as something happens to them, for ever; None first, and whenever nothing came for a while.

        Notices are hints: those of a broken connection are lost. Durable truth is in `get` and `events`.
        """
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(keys.NOTICES)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                yield message["data"].decode() if message else None

    async def workers(self) -> int:
        """How many workers have been heard of lately."""
        seconds, _ = await self._redis.time()
        since = (seconds - self._settings.takeover_seconds) * 1000
        return int(await self._redis.zcount(keys.WORKERS, since, "+inf"))

    async def _record(self, job_id: str) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], await self._redis.hgetall(keys.record(job_id)))
