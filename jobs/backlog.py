"""How the queue stands: what waits, what is being worked on, and for how long.

In: a client; out: plain numbers. It changes nothing.
"""

from dataclasses import dataclass
from typing import Any

from redis import asyncio as aioredis
from redis.exceptions import ResponseError

from jobs import keys, metrics
from jobs.settings import QueueSettings


@dataclass(frozen=True, slots=True)
class Backlog:
    """The queue at one moment. Ages are counted from when a job was taken in, and are 0 where there is none."""

    waiting: int  # jobs that no worker has been given yet
    pending: int  # jobs in the hands of workers, dead ones included
    oldest_waiting_seconds: float
    oldest_pending_seconds: float
    workers: int
    dead_letters: int
    webhooks_due: int
    counts: dict[str, float]  # as jobs/metrics.py reads them


async def read_backlog(redis: aioredis.Redis, settings: QueueSettings) -> Backlog:
    """How the queue stands now. Raises redis.exceptions.RedisError."""
    # One transaction: a job that is claimed meanwhile shall not be counted twice, nor be missed.
    pipeline = redis.pipeline()
    pipeline.time()
    pipeline.xlen(keys.STREAM)
    pipeline.xinfo_groups(keys.STREAM)
    pipeline.xpending(keys.STREAM, keys.GROUP)
    pipeline.xlen(keys.DEAD)
    pipeline.zcard(keys.WEBHOOKS)
    pipeline.hgetall(keys.COUNTS)
    (seconds, micros), entries, groups, held, dead, webhooks, counts = map(
        _unless_missing, await pipeline.execute(raise_on_error=False)
    )
    now = seconds + micros / 1e6
    pending = held["pending"] if held else 0
    delivered = next(
        (group["last-delivered-id"] for group in groups or [] if group["name"] == keys.GROUP.encode()), b"0"
    )
    pipeline = redis.pipeline(transaction=False)
    pipeline.xrange(keys.STREAM, min=b"(" + delivered, count=1)
    pipeline.zcount(keys.WORKERS, settings.alive_since(now), "+inf")
    next_entries, workers = await pipeline.execute()
    return Backlog(
        # Not the group's `lag`: once an entry was deleted undelivered, as an expired job's is, that is unknown or even
        # wrong. But entries are acknowledged and deleted in one step, so every pending one is in the stream.
        waiting=max(0, entries - pending),
        pending=pending,
        oldest_waiting_seconds=_age(now, next_entries[0][0]) if next_entries else 0.0,
        oldest_pending_seconds=_age(now, held["min"]) if pending else 0.0,
        workers=workers,
        dead_letters=dead,
        webhooks_due=webhooks,
        counts=metrics.read_counts(counts),
    )


def _unless_missing(answer: Any) -> Any:
    """The answer; None where there is no stream or no group yet. Raises any other error."""
    if isinstance(answer, ResponseError) and str(answer).startswith(("no such key", "NOGROUP")):
        return None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _age(now: float, entry: bytes) -> float:
    """How long ago an entry was made: its id begins with the time, in ms."""
    return max(0.0, now - int(entry.partition(b"-")[0]) / 1000)
