"""The worker's side of the queue: claim jobs, keep them, start and finish them, and take over those of dead workers.

All methods may be called from any thread, and may raise redis.exceptions.RedisError.
"""

import logging
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ResponseError

from jobs import keys
from jobs.connection import BLOCK_SECONDS
from jobs.job import NO_OPTIONS, Result, Status
from jobs.options import CaptionOptions, ScoreOptions, read_options
from jobs.problem import Problem
from jobs.scripts import read_script, script_args, script_keys
from jobs.settings import QueueSettings

log = logging.getLogger(__name__)

_ENTRIES_A_SCAN = 100
# 30,000 jobs, about 0.3 s on a busy machine. A worker sends no heartbeat while it sweeps.
_SCANS_A_SWEEP = 300
_SCRIPTS = ("start", "publish_words", "finish", "heartbeat", "leave", "sweep", "reconcile")

# Stream entries as redis-py returns them.
Entries = Sequence[tuple[bytes, dict[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker holds. `attempt` counts the attempts that all workers have begun so far.

    `options` is None if it cannot be read: a newer web process may know options that this worker does not.
    """

    job_id: str
    entry: str
    attempt: int
    image: bytes | None
    options: CaptionOptions | ScoreOptions | None
    created: float  # seconds since 1970
    request_id: str


@dataclass(frozen=True, slots=True)
class Interest:
    """Which running jobs are unwanted (canceled, deleted or taken over), and which have a follower; by stream entry."""

    unwanted: set[str]
    followed: set[str]


class Consumer:
    """One worker's access to the queue."""

    def __init__(self, redis: Redis, settings: QueueSettings) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._redis = redis
        self._settings = settings
        self._takeover_ms = int(settings.takeover_seconds * 1000)
        # Where the next scan for entries of dead workers begins. A scan that always began at the start would never get
        # past a long head of live entries.
        self._cursor = "0-0"
        self._sweep_cursor = b"0"
        self._scripts = {name: redis.register_script(read_script(name)) for name in _SCRIPTS}

    def claim(self, count: int) -> list[Claim]:
        """Claim up to `count` new jobs. If there is none, wait up to a second for the first."""
        try:
            answer = self._redis.xreadgroup(
                keys.GROUP, self.name, {keys.STREAM: ">"}, count=count, block=int(BLOCK_SECONDS * 1000)
            )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._create_group()
            return []
        streams = cast(list[tuple[bytes, Entries]], answer)
        return self._claims(streams[0][1]) if streams else []

    def take_over(self, count: int) -> list[Claim]:
        """Claim up to `count` jobs of silent workers, in one scan that continues where the last one ended."""
        try:
            cursor, entries, *_ = self._redis.xautoclaim(
                keys.STREAM,
                keys.GROUP,
                self.name,
                self._takeover_ms,
                self._cursor,
                count=min(count, _ENTRIES_A_SCAN),
            )
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._create_group()
            return []
        self._cursor = cursor.decode()
        return self._claims(entries)

    def start(self, claims: Sequence[Claim]) -> list[Claim]:
        """Begin an attempt at each of `claims`. Return the jobs to run, each with its new attempt number.

        The others belong to another worker now, or are over: expired, given up or finished.
        """
        problem = Problem.of(
            "poison",
            "Given up",
            500,
            f"the worker died in each of {self._settings.max_attempts} attempts at this picture",
        ).model_dump_json()
        pipeline = self._redis.pipeline(transaction=False)
        most, keep = self._settings.max_attempts, self._settings.dead_ttl_seconds * 1000
        for claim in claims:
            args = claim.job_id, self.name, claim.entry, claim.attempt, most, problem, keep
            self._run("start", *args, client=pipeline)
        answers = cast(list[list[Any]], pipeline.execute())
        return [
            replace(claim, attempt=answer[1])
            for claim, answer in zip(claims, answers, strict=True)
            if answer[0] == b"run"
        ]

    def publish_words(self, words: Sequence[tuple[Claim, int, Sequence[str]]]) -> set[str]:
        """Publish decided words: for each job, the number published before and the JSON of the new ones.

        Return the entries of jobs that were canceled, deleted or taken over.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for claim, before, events in words:
            self._run("publish_words", claim.job_id, claim.attempt, before, *events, client=pipeline)
        return {claim.entry for (claim, *_), wanted in zip(words, pipeline.execute(), strict=True) if not wanted}

    def interest(self, claims: Sequence[Claim]) -> Interest:
        """Return which jobs of `claims` are unwanted, and which have a follower."""
        pipeline = self._redis.pipeline(transaction=False)
        for claim in claims:
            pipeline.hmget(keys.record(claim.job_id), "status", "attempt", "followed")
        interest = Interest(set(), set())
        for claim, (status, attempt, followed) in zip(claims, pipeline.execute(), strict=True):
            if status != b"processing" or int(attempt) != claim.attempt:
                interest.unwanted.add(claim.entry)
            elif followed:
                interest.followed.add(claim.entry)
        return interest

    def succeed(self, claim: Claim, result: Result) -> bool:
        """Store the result and end the job. Return False if another worker has the job, or it is over."""
        return self.succeed_all([(claim, result)])[0]

    def succeed_all(self, results: Sequence[tuple[Claim, Result]]) -> list[bool]:
        """Call `succeed` for several jobs. If this raises, some results may be stored; calling again does no harm."""
        pipeline = self._redis.pipeline(transaction=False)
        for claim, result in results:
            text = result.captions[0].text if result.captions else ""
            fields = "result", result.model_dump_json(), "text", text
            self._finish(claim, Status.SUCCEEDED, result.model.version, *fields, client=pipeline)
        return [bool(answer) for answer in pipeline.execute()]

    def fail(self, claim: Claim, problem: Problem) -> bool:
        """End the job with a problem. Return False if another worker has the job, or it is over."""
        return bool(self._finish(claim, Status.FAILED, "", "error", problem.model_dump_json()))

    def heartbeat(self, entries: Sequence[str], version: str = "") -> set[str]:
        """Report that this worker is alive, which captioner it runs, and that it still works on `entries`.

        Return the entries that are still its own.
        """
        kept = self._run("heartbeat", self.name, 10 * self._takeover_ms, version, *entries)
        return {entry.decode() for entry in cast(list[bytes], kept)}

    def sweep(self, scans: int = _SCANS_A_SWEEP) -> None:
        """Remove workers that have been silent for long, and requeue jobs whose stream entry is lost.

        Looks at a bounded number of jobs in each of `scans` scans. The next sweep continues where this one ends.
        """
        try:
            self._run("sweep", 60 * self._takeover_ms)
        except ResponseError as error:
            if "no such key" not in str(error) and not str(error).startswith("NOGROUP"):
                raise
            self._create_group()
        for _ in range(scans):
            answer = self._run("reconcile", self._sweep_cursor, _ENTRIES_A_SCAN)
            self._sweep_cursor, requeued = cast(tuple[bytes, int], answer)
            if requeued:
                log.warning("requeued %d jobs that were missing from the queue", requeued)
            if self._sweep_cursor == b"0":
                return

    def leave(self, entries: Sequence[str]) -> None:
        """Sign off and hand `entries` back. Another worker claims them at its next scan."""
        self._run("leave", self.name, *entries)

    def _finish(
        self, claim: Claim, status: Status, version: str, *fields: str, client: Pipeline | None = None
    ) -> object:
        return self._run("finish", claim.job_id, claim.attempt, status.value, version, *fields, client=client)

    def _run(self, script: str, *more: str | bytes | int, client: Pipeline | None = None) -> object:
        """Run a script and return its answer. With a pipeline as `client`, add it to the pipeline."""
        return self._scripts[script](keys=script_keys(), args=script_args(self._settings, *more), client=client)

    def _claims(self, entries: Entries) -> list[Claim]:
        """Read the records and pictures of stream entries."""
        pipeline = self._redis.pipeline(transaction=False)
        # An entry without a job was not added by Wordlight, and no worker could finish it.
        for entry in [entry for entry, fields in entries if b"job" not in fields]:
            self._redis.xack(keys.STREAM, keys.GROUP, entry)
            self._redis.xdel(keys.STREAM, entry)
        entries = [(entry, fields) for entry, fields in entries if b"job" in fields]
        job_ids = [fields[b"job"].decode() for _, fields in entries]
        for job_id in job_ids:
            pipeline.hmget(keys.record(job_id), "attempt", "options", "created", "request")
            pipeline.get(keys.image(job_id))
        answers = iter(pipeline.execute())
        return [
            _claim(job_id, entry, next(answers), next(answers))
            for job_id, (entry, _) in zip(job_ids, entries, strict=True)
        ]

    def _create_group(self) -> None:
        """Create the consumer group at the start of the stream, because jobs may be older than the group."""
        try:
            self._redis.xgroup_create(keys.STREAM, keys.GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


def _claim(job_id: str, entry: bytes, fields: Sequence[bytes | None], image: bytes | None) -> Claim:
    attempt, text, created, request = fields
    try:
        options = read_options(text or NO_OPTIONS)
    except ValueError:
        options = None
    return Claim(
        job_id, entry.decode(), int(attempt or 0), image, options, int(created or 0) / 1000, (request or b"").decode()
    )
