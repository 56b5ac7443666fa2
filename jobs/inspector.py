"""The operator's view of the queue: waiting and running jobs, dead letters, and the figures for /metrics.

Every method and function may raise redis.exceptions.RedisError.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from redis import Redis
from redis import asyncio as aioredis
from redis.exceptions import ResponseError

from jobs import keys, metrics
from jobs.ids import new_id
from jobs.problem import Problem
from jobs.producer import QueueFull
from jobs.scripts import read_script, script_args, script_keys
from jobs.settings import QueueSettings

_FIELDS = ("status", "attempt", "owner", "request", "created")


class NoSuchJob(Exception):
    """The job does not exist or is in another state. The message is one line."""


@dataclass(frozen=True, slots=True)
class Row:
    """An active job or a dead letter. `since` is when it was accepted or given up, in seconds since 1970."""

    id: str
    status: str
    attempts: int
    owner: str
    request_id: str
    since: float
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON data."""
        return asdict(self)


class Inspector:
    """Lists, retries and cancels jobs."""

    def __init__(self, redis: Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._scripts = {name: redis.register_script(read_script(name)) for name in ("send_back", "cancel")}

    def counts(self) -> dict[str, int]:
        """Count the active jobs, the dead letters and the live workers."""
        seconds, _ = self._redis.time()
        return {
            "active": self._redis.zcard(keys.ACTIVE),
            "dead": self._redis.xlen(keys.DEAD),
            "workers": self._redis.zcount(keys.WORKERS, self._settings.alive_since(seconds), "+inf"),
        }

    def active(self, most: int) -> Iterator[Row]:
        """Yield up to `most` active jobs, oldest first."""
        ids = [name.decode() for name in cast(list[bytes], self._redis.zrange(keys.ACTIVE, 0, most - 1))]
        for job_id, fields in zip(ids, self._fields(ids), strict=True):
            if fields["status"]:
                yield _row(job_id, fields, int(fields["created"] or 0) / 1000)

    def dead(self, most: int) -> Iterator[Row]:
        """Yield up to `most` dead letters, newest first."""
        letters = cast(list[tuple[bytes, dict[bytes, bytes]]], self._redis.xrevrange(keys.DEAD, count=most))
        ids = [letter[b"job"].decode() for _, letter in letters]
        for job_id, (entry, letter), fields in zip(ids, letters, self._fields(ids), strict=True):
            reason = Problem.model_validate_json(letter[b"error"]).detail
            yield _row(job_id, fields, int(entry.partition(b"-")[0]) / 1000, reason)

    def send_back(self, job_id: str) -> str:
        """Submit a dead letter again as a new job; return its id. Raises NoSuchJob and QueueFull."""
        owner = cast(bytes | None, self._redis.hget(keys.record(job_id), "owner")) or b""
        secret = cast(bytes | None, self._redis.get(keys.SECRET)) or b""
        new = new_id(secret, owner.decode())
        settings = self._settings
        answer = self._scripts["send_back"](
            keys=script_keys(),
            args=script_args(settings, job_id, new, settings.max_jobs, settings.job_lifetime_seconds * 1000),
        )
        if answer == b"full":
            raise QueueFull
        if answer == b"unknown":
            raise NoSuchJob(f"there is no dead letter {job_id}, or its picture is deleted")
        return new

    def cancel(self, job_id: str) -> bool:
        """Cancel an active job. Return False if there is none with that id."""
        return bool(self._scripts["cancel"](keys=script_keys(), args=script_args(self._settings, job_id)))

    def _fields(self, ids: Sequence[str]) -> list[dict[str, str]]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(keys.record(job_id), *_FIELDS)
        return [
            {name: (value or b"").decode() for name, value in zip(_FIELDS, values, strict=True)}
            for values in pipeline.execute()
        ]


def _row(job_id: str, fields: dict[str, str], since: float, reason: str = "") -> Row:
    return Row(
        id=job_id,
        status=fields["status"],
        attempts=int(fields["attempt"] or 0),
        owner=fields["owner"],
        request_id=fields["request"],
        since=since,
        reason=reason,
    )


@dataclass(frozen=True, slots=True)
class Backlog:
    """The state of the queue at one moment. Ages count from when a job was accepted; without jobs they are 0."""

    waiting: int  # jobs that no worker has claimed
    pending: int  # jobs that workers hold, dead workers included
    oldest_waiting_seconds: float
    oldest_pending_seconds: float
    workers: int
    dead_letters: int
    webhooks_due: int
    counts: dict[str, float]  # as jobs/metrics.py reads them


async def read_backlog(redis: aioredis.Redis, settings: QueueSettings) -> Backlog:
    """Read the state of the queue. Changes nothing."""
    # One transaction, so that a job that is claimed meanwhile is counted once.
    pipeline = redis.pipeline()
    pipeline.time()
    pipeline.xlen(keys.STREAM)
    pipeline.xinfo_groups(keys.STREAM)
    pipeline.xpending(keys.STREAM, keys.GROUP)
    pipeline.xlen(keys.DEAD)
    pipeline.zcard(keys.WEBHOOKS)
    pipeline.hgetall(keys.COUNTS)
    (seconds, micros), entries, groups, summary, dead, webhooks, counts = map(
        _unless_missing, await pipeline.execute(raise_on_error=False)
    )
    now = seconds + micros / 1e6
    pending = summary["pending"] if summary else 0
    delivered = next(
        (group["last-delivered-id"] for group in groups or [] if group["name"] == keys.GROUP.encode()), b"0"
    )
    pipeline = redis.pipeline(transaction=False)
    pipeline.xrange(keys.STREAM, min=b"(" + delivered, count=1)
    pipeline.zcount(keys.WORKERS, settings.alive_since(now), "+inf")
    next_entries, workers = await pipeline.execute()
    return Backlog(
        # The group's `lag` is unknown or wrong once an undelivered entry was deleted, as that of an expired job is.
        # Entries are acknowledged and deleted in one step, so every pending entry is in the stream.
        waiting=max(0, entries - pending),
        pending=pending,
        oldest_waiting_seconds=_age(now, next_entries[0][0]) if next_entries else 0.0,
        oldest_pending_seconds=_age(now, summary["min"]) if pending else 0.0,
        workers=workers,
        dead_letters=dead,
        webhooks_due=webhooks,
        counts=metrics.read_counts(counts),
    )


def _unless_missing(answer: Any) -> Any:
    """Return the answer, or None if there is no stream or group yet. Raise any other error."""
    if isinstance(answer, ResponseError) and str(answer).startswith(("no such key", "NOGROUP")):
        return None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _age(now: float, entry: bytes) -> float:
    """Return the age of a stream entry in seconds. Its id begins with the time in ms."""
    return max(0.0, now - int(entry.partition(b"-")[0]) / 1000)
