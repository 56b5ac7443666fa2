"""The web process's side of the queue: submit, read, follow, cancel and delete jobs.

Every method may raise redis.exceptions.RedisError. Jobs of another owner look as if they did not exist.
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
from jobs.ids import issued, new_id, shared_secret
from jobs.job import SUMMARY, Batch, Job, JobSummary, Record
from jobs.options import CaptionOptions, ScoreOptions
from jobs.problem import Problem
from jobs.scripts import read_script, script_args, script_keys
from jobs.settings import QueueSettings

_SCRIPTS = ("submit", "expire", "follow", "cancel", "delete")
# Redis's clock decides whether a job has expired. It is asked only if the deadline is near by the local clock, give or
# take this difference between the two.
_CLOCKS_DIFFER_SECONDS = 60.0


class QueueFull(Exception):
    """The queue is full. No job was accepted."""


class KeyReused(Exception):
    """The Idempotency-Key was used for a different request. No job was accepted."""


class TooFewReplicas(RedisError):
    """The jobs are in the queue, but too few replicas of the queue server have them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A working image (JPEG) and the size of the upright original."""

    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class File:
    """One file of a request: its picture, or the problem with it."""

    content: Picture | Problem
    name: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """The options of a request and its owner.

    `idempotency` is the client's Idempotency-Key; `fingerprint` identifies the request that came with it.
    """

    options: CaptionOptions | ScoreOptions
    owner: str = ""
    request_id: str = ""
    webhook_url: str = ""
    idempotency: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a job. `name` is a status or "word"; `data` is JSON. Ids are durable and increase."""

    id: str
    name: str
    data: str


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification that a job changed. `over` says whether the job has ended."""

    job_id: str
    over: bool


class Producer:
    """Submits jobs and reads them."""

    def __init__(self, redis: aioredis.Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._scripts = {name: redis.register_script(read_script(name)) for name in _SCRIPTS}

    async def submit(self, submission: Submission, picture: Picture) -> str:
        """Submit a picture. Return the id of the job, or of the job that the same request created before.

        When this returns, the job is in Redis, and a worker will see it. Raises QueueFull and KeyReused.
        """
        return await self._submit(submission, [File(picture)], batch="")

    async def submit_batch(self, submission: Submission, files: Sequence[File]) -> str:
        """Submit all files, each as a job, or none of them. Return the id of the batch.

        A file without a picture becomes a failed job. Raises QueueFull and KeyReused.
        """
        batch_id = new_id(await shared_secret(self._redis), submission.owner)
        return await self._submit(submission, files, batch_id)

    async def get(self, job_id: str, owner: str | None = "") -> Job | None:
        """Return the job; None if the owner has no job with that id. `owner=None` means any owner."""
        record = await self._record(job_id)
        if not record or owner not in (None, record.get(b"owner", b"").decode()):
            return None
        if record[b"status"] == b"queued" and int(record[b"deadline"]) / 1000 < time.time() + _CLOCKS_DIFFER_SECONDS:
            expired = await self._run("expire", job_id)
            if expired:
                record = await self._record(job_id)
        return Job.from_record(job_id, record, self._settings.result_ttl_seconds) if record else None

    async def secret(self) -> bytes:
        """Return the secret that authenticates ids and tickets."""
        return await shared_secret(self._redis)

    async def was_issued(self, job_id: str, owner: str = "") -> bool:
        """Whether the owner once had a job or batch with that id."""
        return issued(await shared_secret(self._redis), owner, job_id)

    async def image(self, job_id: str) -> bytes | None:
        """Return the working image of a job; None if it is no longer kept."""
        return cast(bytes | None, await self._redis.get(keys.image(job_id)))

    async def queue_position(self, job_id: str) -> int | None:
        """Return the number of older jobs, of all owners, that are not over; None if this job is over."""
        return cast(int | None, await self._redis.zrank(keys.ACTIVE, job_id))

    async def batch(self, batch_id: str, owner: str = "") -> Batch | None:
        """Return the batch and its jobs; None if the owner has no batch with that id."""
        record = cast(Record, await self._redis.hgetall(keys.batch(batch_id)))
        if not record or record[b"owner"].decode() != owner:
            return None
        jobs = await self._summaries(record[b"jobs"].decode().split())
        if not jobs:  # all are deleted or expired
            return None
        return Batch.of(batch_id, record[b"created"], jobs)

    async def delete_batch(self, batch_id: str) -> None:
        """Delete the batch. The caller deletes its jobs."""
        await self._redis.delete(keys.batch(batch_id))

    async def latest(self, owner: str, limit: int, before: str | None = None) -> list[JobSummary]:
        """Return up to `limit` jobs of the owner, newest first; with `before`, only jobs older than that one."""
        jobs: list[JobSummary] = []
        last = f"({before}" if before else "+"
        while len(jobs) < limit:
            members = await self._redis.zrange(keys.owned(owner), last, "-", desc=True, bylex=True, offset=0, num=limit)
            ids = [name.decode() for name in cast(list[bytes], members)]
            jobs += await self._summaries(ids)
            if len(ids) < limit:
                break
            last = f"({ids[-1]}"
        return jobs[:limit]

    async def cancel(self, job_id: str) -> None:
        """Cancel the job if it is not over. When this returns, it is over; its worker learns of it a moment later."""
        await self._run("cancel", job_id)

    async def delete(self, job_id: str) -> None:
        """Delete the job with its picture and result. A job that is not over is canceled first."""
        await self._run("delete", job_id)

    async def follow(self, job_id: str) -> None:
        """Tell workers that a client follows the job, so that they publish words early."""
        await self._run("follow", job_id)

    async def events(self, job_id: str, after: str) -> list[Event]:
        """Return the events after the event `after`, oldest first. "0" means from the beginning."""
        answer = await self._redis.xrange(keys.events(job_id), min=f"({after}")
        rows = cast(list[tuple[bytes, Record]], answer)
        return [Event(entry.decode(), fields[b"event"].decode(), fields[b"data"].decode()) for entry, fields in rows]

    async def notifications(self) -> AsyncIterator[Notification | None]:
        """Yield a notification for each change of a job, without end; None at the start and after each quiet second.

        A notification may get lost with its connection. `get` and `events` are reliable.
        """
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(keys.NOTIFICATIONS)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                text = message["data"].decode() if message else ""
                yield Notification(text.removesuffix("+"), over=not text.endswith("+")) if text else None

    async def workers(self) -> int:
        """Return the number of live workers."""
        seconds, _ = await self._redis.time()
        return int(await self._redis.zcount(keys.WORKERS, self._settings.alive_since(seconds), "+inf"))

    async def _submit(self, submission: Submission, files: Sequence[File], batch: str) -> str:
        """Return the id of the job or batch that the request creates, or created before."""
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
        answer, *earlier = await self._run_submit(args)
        if answer == b"full":
            raise QueueFull
        if answer == b"other":
            raise KeyReused
        return str(earlier[0].decode()) if earlier else batch or ids[0]

    async def _run_submit(self, args: list[str | bytes | int]) -> list[bytes]:
        """Run submit.lua and wait for the required replicas. Raises TooFewReplicas."""
        required = self._settings.replicas
        if not required:
            return cast(list[bytes], await self._scripts["submit"](keys=script_keys(), args=args))
        # In one pipeline: WAIT waits for the writes of its own connection.
        pipeline = self._redis.pipeline(transaction=False)
        await self._scripts["submit"](keys=script_keys(), args=args, client=pipeline)
        pipeline.wait(required, int(BLOCK_SECONDS * 1000))
        answer, replicas = await pipeline.execute()
        if replicas < required:
            raise TooFewReplicas(f"{replicas} of {required} replicas have the jobs")
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
    """Return image, width, height, fingerprint and problem for submit.lua."""
    if isinstance(content, Problem):
        return ["", 0, 0, "", content.model_dump_json()]
    # Each owner has a separate cache. Otherwise the speed of an answer would reveal what others have sent.
    options = submission.options.model_dump_json(exclude={"expires_in"})
    digest = hashlib.sha256(f"{submission.owner} {content.width} {content.height} {options} ".encode() + content.data)
    return [content.data, content.width, content.height, digest.hexdigest(), ""]
