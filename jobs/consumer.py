"""The half of the queue that `worker` holds: claim jobs, keep them, begin and finish them, take over dead workers'.

In: nothing but a connection; out: claims, and jobs that are over. It must not know what is done with an image. All
methods may raise redis.exceptions.RedisError; each may be called from any thread.
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
# 30,000 jobs, some 0.3 s on a busy machine: a worker that sweeps does not tell that it lives.
_SCANS_A_SWEEP = 300
_SCRIPTS = ("start", "say", "finish", "heartbeat", "leave", "sweep", "reconcile")

# As redis-py reads them from the stream.
Entries = Sequence[tuple[bytes, dict[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker holds. `attempt` counts the attempts begun so far, by whomever.

    `options` are None where they cannot be read: a newer web process may know some that this program does not.
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
    """In jobs at hand, by their entries: which nobody wants any more (canceled, deleted, or taken over), and which
    somebody follows.
    """

    unwanted: set[str]
    followed: set[str]


class Consumer:
    """One worker's view of the queue."""

    def __init__(self, redis: Redis, settings: QueueSettings) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._redis = redis
        self._settings = settings
        self._takeover_ms = int(settings.takeover_seconds * 1000)
        # Where the next scan for neglected entries begins. Kept: a scan that always began at the start would never
        # come past a long head of live entries.
        self._cursor = "0-0"
        self._swept = b"0"  # the same, of sweeping
        self._scripts = {name: redis.register_script(read_script(name)) for name in _SCRIPTS}

    def claim(self, count: int) -> list[Claim]:
        """Up to `count` new jobs, waiting a second for the first if there is none."""
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
        """Up to `count` jobs of workers that have not been heard of; one scan, going on where the last one ended."""
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
        """Begin an attempt at each of `claims`; returns those to be run, each with its new attempt number.

        The others were taken over by somebody, or are over: expired, given up, or finished before.
        """
        problem = Problem.of(
            "poison",
            "Given up",
            500,
            f"{self._settings.max_attempts} attempts at this picture ended with their worker",
        ).model_dump_json()
        pipeline = self._redis.pipeline(transaction=False)
        most, keep = self._settings.max_attempts, self._settings.dead_ttl_seconds * 1000
        for claim in claims:
            asked = claim.job_id, self.name, claim.entry, claim.attempt, most, problem, keep
            self._run("start", *asked, client=pipeline)
        answers = cast(list[list[Any]], pipeline.execute())
        return [
            replace(claim, attempt=answer[1])
            for claim, answer in zip(claims, answers, strict=True)
            if answer[0] == b"run"
        ]

    def say(self, words: Sequence[tuple[Claim, int, Sequence[str]]]) -> set[str]:
        """Tell which words have been decided: of each job how many were told before, and the JSON of further ones.

        Returns the entries of jobs that nobody wants any more: canceled, deleted, or taken over.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for claim, before, events in words:
            self._run("say", claim.job_id, claim.attempt, before, *events, client=pipeline)
        return {claim.entry for (claim, *_), wanted in zip(words, pipeline.execute(), strict=True) if not wanted}

    def interest(self, claims: Sequence[Claim]) -> Interest:
        """Who waits for the jobs of `claims`."""
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
        """Store the result and end the job; False if another worker has the job now, or it had ended before."""
        return self.succeed_all([(claim, result)])[0]

    def succeed_all(self, results: Sequence[tuple[Claim, Result]]) -> list[bool]:
        """As `succeed` does it, for each of them. Should this raise, some may be stored: to ask again does no harm."""
        pipeline = self._redis.pipeline(transaction=False)
        for claim, result in results:
            text = result.captions[0].text if result.captions else ""
            fields = "result", result.model_dump_json(), "text", text
            self._finish(claim, Status.SUCCEEDED, result.model.version, *fields, client=pipeline)
        return [bool(answer) for answer in pipeline.execute()]

    def fail(self, claim: Claim, problem: Problem) -> bool:
        """End the job with a problem; False if another worker has the job now, or it had ended before."""
        return bool(self._finish(claim, Status.FAILED, "", "error", problem.model_dump_json()))

    def heartbeat(self, entries: Sequence[str], version: str = "") -> set[str]:
        """Tell that this worker lives, which captioner it has, and that it still works on `entries`.

        Returns those that are still its own.
        """
        kept = self._run("heartbeat", self.name, 10 * self._takeover_ms, version, *entries)
        return {entry.decode() for entry in cast(list[bytes], kept)}

    def sweep(self, scans: int = _SCANS_A_SWEEP) -> None:
        """Forget the names of workers long gone, and help jobs that have lost their way.

        Where there are more jobs than can be looked at in so many scans, the next sweep goes on where this one ended.
        """
        try:
            self._run("sweep", 60 * self._takeover_ms)
        except ResponseError as error:
            if "no such key" not in str(error) and not str(error).startswith("NOGROUP"):
                raise
            self._create_group()
        for _ in range(scans):
            self._swept, back = cast(tuple[bytes, int], self._run("reconcile", self._swept, _ENTRIES_A_SCAN))
            if back:
                log.warning("put %d jobs back into the queue, which had lost them", back)
            if self._swept == b"0":
                return

    def leave(self, entries: Sequence[str]) -> None:
        """Say goodbye, handing back `entries`; another worker takes them at its next look."""
        self._run("leave", self.name, *entries)

    def _finish(
        self, claim: Claim, status: Status, version: str, *fields: str, client: Pipeline | None = None
    ) -> object:
        return self._run("finish", claim.job_id, claim.attempt, status.value, version, *fields, client=client)

    def _run(self, script: str, *more: str | bytes | int, client: Pipeline | None = None) -> object:
        """What the script answers; with a pipeline as `client`, that will."""
        return self._scripts[script](keys=script_keys(), args=script_args(self._settings, *more), client=client)

    def _claims(self, entries: Entries) -> list[Claim]:
        """Entries of the stream with what is needed to work on them."""
        pipeline = self._redis.pipeline(transaction=False)
        # An entry that names no job is not ours, and nobody could ever finish it.
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
        """Make the group, from the stream's beginning: jobs may have come before any worker, or outlived the group."""
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
