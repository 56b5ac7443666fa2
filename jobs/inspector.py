"""The queue as its operator sees it: what waits, what runs, what was given up; and a way to send that back.

In: a connection; out: plain rows. It must not know how they are printed. All methods may raise
redis.exceptions.RedisError.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from redis import Redis

from jobs import keys
from jobs.ids import new_id
from jobs.problem import Problem
from jobs.producer import QueueFull
from jobs.scripts import read_script, script_args, script_keys
from jobs.settings import QueueSettings

_FIELDS = ("status", "attempt", "owner", "request", "created")


class NoSuchJob(Exception):
    """There is nothing to do it with. The message is one line."""


@dataclass(frozen=True, slots=True)
class Row:
    """A job that is not over, or a dead letter; `since` is when it came, or was given up, in seconds since 1970."""

    id: str
    status: str
    attempts: int
    owner: str
    request_id: str
    since: float
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


class Inspector:
    """Looks at the queue."""

    def __init__(self, redis: Redis, settings: QueueSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._scripts = {name: redis.register_script(read_script(name)) for name in ("send_back", "cancel")}

    def counts(self) -> dict[str, int]:
        """How many jobs are not over, how many dead letters there are, and how many workers were heard of lately."""
        seconds, _ = self._redis.time()
        return {
            "active": self._redis.zcard(keys.ACTIVE),
            "dead": self._redis.xlen(keys.DEAD),
            "workers": self._redis.zcount(keys.WORKERS, self._settings.alive_since(seconds), "+inf"),
        }

    def active(self, most: int) -> Iterator[Row]:
        """Jobs that are not over, the oldest first."""
        ids = [name.decode() for name in cast(list[bytes], self._redis.zrange(keys.ACTIVE, 0, most - 1))]
        for job_id, fields in zip(ids, self._fields(ids), strict=True):
            if fields["status"]:
                yield _row(job_id, fields, int(fields["created"] or 0) / 1000)

    def dead(self, most: int) -> Iterator[Row]:
        """Dead letters, the latest first."""
        letters = cast(list[tuple[bytes, dict[bytes, bytes]]], self._redis.xrevrange(keys.DEAD, count=most))
        ids = [letter[b"job"].decode() for _, letter in letters]
        for job_id, (entry, letter), fields in zip(ids, letters, self._fields(ids), strict=True):
            reason = Problem.model_validate_json(letter[b"error"]).detail
            yield _row(job_id, fields, int(entry.partition(b"-")[0]) / 1000, reason)

    def send_back(self, job_id: str) -> str:
        """Make a new job of a dead letter; returns its id. Raises NoSuchJob and QueueFull."""
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
            raise NoSuchJob(f"there is no dead letter {job_id} whose picture is still kept")
        return new

    def cancel(self, job_id: str) -> bool:
        """End a job that is not over; False if there is none."""
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
