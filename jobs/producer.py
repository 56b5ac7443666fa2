"""The half of the queue that `app` holds: put jobs in, look at them, follow them, take them back.

In: working images and options; out: jobs and their events. It must not know of HTTP, nor of how workers take jobs.
Every method may raise redis.exceptions.RedisError. What belongs to another owner is as if it were not there.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import cast

from redis import asyncio as aioredis
from redis.exceptions import RedisError

from jobs import keys
from jobs.connection import BLOCK_SECONDS
from jobs.ids import issued, new_id
from jobs.job import SUMMARY, Batch, Job, JobSummary, Record
from jobs.options import CaptionOptions, ScoreOptions
from jobs.problem import Problem
from jobs.scripts import read_script, script_args, script_keys
from jobs.secret import shared_secret
from jobs.settings import QueueSettings

_SCRIPTS = ("submit", "expire", "follow", "cancel", "delete")
# Redis's clock decides whether a job has expired. It is not asked as long as ours is so far from the deadline that the
# two would have to differ by more than this.
_CLOCKS_DIFFER_SECONDS = 60.0


class QueueFull(Exception):
    """As many jobs wait or run as may; nothing was taken in."""


class KeyReused(Exception):
    """The Idempotency-Key came with another request before; nothing was taken in."""


class TooFewReplicas(RedisError):
    """Jobs are in the queue, but on fewer servers than they shall be before their client is told so."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A working image (JPEG) and the size of the upright original."""

    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class File:
    """One file of a request: its picture, or why there is none."""

    content: Picture | Problem
    name: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is asked for, by whom. `idempotency` is the client's key, `fingerprint` tells its request from others."""

    options: CaptionOptions | ScoreOptions
    owner: str = ""
    request_id: str = ""
    webhook_url: str = ""
    idempotency: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; `id` is durable, and later events have greater ones.

    `name` is a status, or "word"; `data` is JSON.
    """

    id: str
    name: str
    data: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened to a job; `over` if that was its end."""

    job_id: str
    over: bool


class Producer:
    """Submits jobs and reads them back."""

    def __init__(self, redis: aioredis.Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._scripts = {name: redis.register_script(read_script(name)) for name in _SCRIPTS}

    async def submit(self, submission: Submission, picture: Picture) -> str:
        """Take in a picture; returns the id of the job, or of the one that the same request made before.

        Raises QueueFull and KeyReused. When this returns, the job is in Redis, and a worker will see it.
        """
        return await self._take_in(submission, [File(picture)], batch="")

    async def submit_batch(self, submission: Submission, files: Sequence[File]) -> str:
        """Take in all of `files`, one or more, or none of them, each as a job of its own; returns the id of the batch.

        Raises QueueFull and KeyReused. A file without a picture becomes a job that has failed.
        """
        batch_id = new_id(await shared_secret(self._redis), submission.owner)
        return await self._take_in(submission, files, batch_id)

    async def get(self, job_id: str, owner: str | None = "") -> Job | None:
        """The job as it is now; None if the owner (`None`: anybody) has none of that id (any more)."""
        record = await self._record(job_id)
        if not record or owner not in (None, record.get(b"owner", b"").decode()):
            return None
        if record[b"status"] == b"queued" and int(record[b"deadline"]) / 1000 < time.time() + _CLOCKS_DIFFER_SECONDS:
            expired = await self._run("expire", job_id)
            if expired:
                record = await self._record(job_id)
        return Job.from_record(job_id, record, self._settings.result_ttl_seconds) if record else None

    async def secret(self) -> bytes:
        """What ids and tickets are sealed with."""
        return await shared_secret(self._redis)

    async def was_issued(self, job_id: str, owner: str = "") -> bool:
        """Whether the owner once had a job or batch of that id."""
        return issued(await shared_secret(self._redis), owner, job_id)

    async def image(self, job_id: str) -> bytes | None:
        """The working image of a job, as long as it is kept."""
        return cast(bytes | None, await self._redis.get(keys.image(job_id)))

    async def ahead(self, job_id: str) -> int | None:
        """How many jobs, anybody's, came before and are not over; None when this one is."""
        return cast(int | None, await self._redis.zrank(keys.ACTIVE, job_id))

    async def batch(self, batch_id: str, owner: str = "") -> Batch | None:
        """The batch and its jobs as they are now; None if the owner has none of that id (any more)."""
        record = cast(Record, await self._redis.hgetall(keys.batch(batch_id)))
        if not record or record[b"owner"].decode() != owner:
            return None
        jobs = await self._summaries(record[b"jobs"].decode().split())
        if not jobs:  # all deleted, or their time is over
            return None
        return Batch.of(batch_id, record[b"created"], jobs)

    async def delete_batch(self, batch_id: str) -> None:
        """Forget the batch; its jobs are for the caller to delete."""
        await self._redis.delete(keys.batch(batch_id))

    async def latest(self, owner: str, limit: int, before: str | None = None) -> list[JobSummary]:
        """The owner's latest jobs, the newest first, but those from `before` (a job id) on."""
        jobs: list[JobSummary] = []
        last = f"({before}" if before else "+"
        while len(jobs) < limit:
            found = await self._redis.zrange(keys.owned(owner), last, "-", desc=True, bylex=True, offset=0, num=limit)
            ids = [name.decode() for name in cast(list[bytes], found)]
            jobs += await self._summaries(ids)
            if len(ids) < limit:
                break
            last = f"({ids[-1]}"
        return jobs[:limit]

    async def cancel(self, job_id: str) -> None:
        """End the job if it is not over. It is over when this returns, though a worker may need a moment to notice."""
        await self._run("cancel", job_id)

    async def delete(self, job_id: str) -> None:
        """Remove the job, its picture and its result; cancel it first if it is not over."""
        await self._run("delete", job_id)

    async def follow(self, job_id: str) -> None:
        """Let workers know that somebody follows the job, to whom words matter before its end."""
        await self._run("follow", job_id)

    async def events(self, job_id: str, after: str) -> list[Event]:
        """What happened to the job since the event `after` ("0" for all of it), the oldest first."""
        answer = await self._redis.xrange(keys.events(job_id), min=f"({after}")
        rows = cast(list[tuple[bytes, Record]], answer)
        return [Event(entry.decode(), fields[b"event"].decode(), fields[b"data"].decode()) for entry, fields in rows]

    async def notices(self) -> AsyncIterator[Notice | None]:
        """What happens to jobs, as it does, for ever; None first, and whenever nothing came for a while.

        Notices are hints: those of a broken connection are lost. Durable truth is in `get` and `events`.
        """
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(keys.NOTICES)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                text = message["data"].decode() if message else ""
                yield Notice(text.removesuffix("+"), over=not text.endswith("+")) if text else None

    async def workers(self) -> int:
        """How many workers have been heard of lately."""
        seconds, _ = await self._redis.time()
        return int(await self._redis.zcount(keys.WORKERS, self._settings.alive_since(seconds), "+inf"))

    async def _take_in(self, submission: Submission, files: Sequence[File], batch: str) -> str:
        """The id of the job or batch that the request made, now or before."""
        secret, settings, options = await shared_secret(self._redis), self._settings, submission.options
        lifetime = min(options.expires_in or settings.job_lifetime_seconds, settings.job_lifetime_seconds)
        idempotency = ""
        if submission.idempotency:
            digest = hashlib.sha256(submission.idempotency.encode()).hexdigest()
            idempotency = keys.idempotency(submission.owner, digest)
        ids = [new_id(secret, submission.owner) for _ in files]
        rows: list[str | bytes | int] = []
        for job_id, file in zip(ids, files, strict=True):
            rows += [job_id, file.name, *_columns(file.content, submission)]
        args = script_args(
            settings,
            settings.max_jobs,
            lifetime * 1000,
            submission.owner,
            submission.request_id,
            submission.webhook_url,
            options.model_dump_json(),
            batch,
            idempotency,
            submission.fingerprint,
            *rows,
        )
        answer, *made = await self._submit(args)
        if answer == b"full":
            raise QueueFull
        if answer == b"other":
            raise KeyReused
        return str(made[0].decode()) if made else batch or ids[0]

    async def _submit(self, args: list[str | bytes | int]) -> list[bytes]:
        """What submit.lua answers, when as many replicas have heard of it as shall. Raises TooFewReplicas."""
        wanted = self._settings.replicas
        if not wanted:
            return cast(list[bytes], await self._scripts["submit"](keys=script_keys(), args=args))
        # In one go: what a connection waits for is what it has written itself.
        pipeline = self._redis.pipeline(transaction=False)
        await self._scripts["submit"](keys=script_keys(), args=args, client=pipeline)
        pipeline.wait(wanted, int(BLOCK_SECONDS * 1000))
        answer, replicas = await pipeline.execute()
        if replicas < wanted:
            raise TooFewReplicas(f"{replicas} of {wanted} replicas have what was taken in")
        return cast(list[bytes], answer)

    async def _summaries(self, ids: Sequence[str]) -> list[JobSummary]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(keys.record(job_id), *SUMMARY)
        summaries = []
        for job_id, values in zip(ids, await pipeline.execute(), strict=True):
            record = {name.encode(): value for name, value in zip(SUMMARY, values, strict=True) if value is not None}
            if record:
                summaries.append(JobSummary.from_record(job_id, record))
        return summaries

    async def _record(self, job_id: str) -> Record:
        return cast(Record, await self._redis.hgetall(keys.record(job_id)))

    async def _run(self, script: str, job_id: str) -> int:
        return int(await self._scripts[script](keys=script_keys(), args=script_args(self._settings, job_id)))


def _columns(content: Picture | Problem, submission: Submission) -> list[str | bytes | int]:
    """Image, width, height, fingerprint and problem, as submit.lua takes them."""
    if isinstance(content, Problem):
        return ["", 0, 0, "", content.model_dump_json()]
    # An owner's cache is its own: from the speed of an answer nobody learns what others have asked for.
    asked = submission.options.model_dump_json(exclude={"expires_in"})
    digest = hashlib.sha256(f"{submission.owner} {content.width} {content.height} {asked} ".encode() + content.data)
    return [content.data, content.width, content.height, digest.hexdigest(), ""]
