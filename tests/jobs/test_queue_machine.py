"""A Hypothesis state machine over producer, consumer and a real Valkey: every accepted job ends exactly once.

Clients submit, cancel and delete; workers run jobs, stop, die and come back; answers and data get lost, in any order.
Time passes only by rules: they move deadlines into the past and make entries look idle.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from redis.exceptions import ResponseError
from support.lost_answers import losing, losing_async, one_answer_lost

from jobs import ids, keys
from jobs.connection import connect, connect_async
from jobs.consumer import Claim, Consumer
from jobs.inspector import Inspector, NoSuchJob
from jobs.job import Caption, ModelInfo, Result, Status
from jobs.options import CaptionOptions
from jobs.problem import Problem
from jobs.producer import File, KeyReused, Picture, Producer, QueueFull, Submission
from jobs.settings import QueueSettings

OWNERS = ("", "somebody")
WORKERS = 2
MAX_JOBS = 6
IDLE_MS = 10**8
# Kinds of keys without expiry. All others belong to one job or request, and must go with it.
LASTING = {"jobs", "workers", "model", "metrics", "secret", "dead", "pictures", "expiring", "owner", "webhooks"}

# So few values that twins and cached answers are frequent.
owners = st.sampled_from(("", "", "somebody"))
pictures = st.sampled_from((b"dog", b"dog", b"cat"))
wordiness = st.sampled_from((5, 5, 5, 6))
idempotency_keys = st.sampled_from(("", "", "k"))
versions = st.sampled_from(("1a", "1a", "2b"))
workers = st.integers(0, WORKERS - 1)
rarely = st.sampled_from((False, False, True))

T = TypeVar("T")


@dataclass
class Accepted:
    """An accepted job, and what the test has seen of it."""

    id: str
    owner: str
    picture: bytes
    max_words: int
    webhook: bool
    refused: bool = False  # a file of a batch without a picture
    events: list[tuple[str, str, str]] = field(default_factory=list)
    end: dict[str, str] | None = None


@dataclass
class Worker:
    """A worker and all entries that it has claimed."""

    consumer: Consumer
    entries: set[str] = field(default_factory=set)


@dataclass
class Run:
    """An attempt of a worker, and the number of words that it has decided."""

    worker: Worker
    claim: Claim
    decided: int = 0


@dataclass(frozen=True)
class Stage:
    """Clients that all examples share, for speed."""

    runner: asyncio.Runner
    redis: Redis
    sync_client: Redis
    async_clients: tuple[Any, Any]


@dataclass
class View:
    """The contents of Valkey."""

    records: dict[str, dict[str, str]]
    events: dict[str, list[tuple[str, str, str]]]
    active: set[str]
    entries: dict[str, str]
    keys: set[str]
    counts: dict[str, int]
    dead: list[str]
    webhooks: set[str]
    listed: set[str]
    cached: dict[str, str]  # cache key -> job


class QueueMachine(RuleBasedStateMachine):
    """The model: the accepted jobs, and what the test saw of each last."""

    jobs = Bundle("jobs")
    claims = Bundle("claims")
    runs = Bundle("runs")

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage, self.redis = stage, stage.redis
        self.redis.flushall()
        self.accepted: dict[str, Accepted] = {}
        self.batches: set[str] = set()
        self.requests: dict[tuple[str, str], tuple[str, str]] = {}  # (owner, key) -> (fingerprint, job or batch)
        self.submitted = 0
        # Stream entries were lost, and no sweep has run since.
        self.entries_lost = False
        self.published: dict[tuple[str, int], int] = {}

    @initialize(most_pictures=st.sampled_from((0, 2)), attempts=st.sampled_from((1, 2, 3)))
    def open(self, most_pictures: int, attempts: int) -> None:
        self.settings = QueueSettings(
            max_jobs=MAX_JOBS,
            max_pictures=most_pictures,
            max_attempts=attempts,
            takeover_seconds=IDLE_MS / 2000,
            result_ttl_seconds=10_000,
            dead_ttl_seconds=20_000,
        )
        self.producers = [Producer(client, self.settings) for client in self.stage.async_clients]
        self.inspector = Inspector(self.stage.sync_client, self.settings)
        self.workers = [self._new_worker() for _ in range(WORKERS)]
        self._await(self.producers[0].secret())
        # Jobs share results only once a worker has reported its captioner.
        self.workers[0].consumer.heartbeat([], "1a")

    # Clients.

    @rule(
        target=jobs,
        web=st.sampled_from((0, 1)),
        owner=owners,
        picture=pictures,
        max_words=wordiness,
        key=idempotency_keys,
        webhook=st.booleans(),
        copies=st.integers(1, 3),
        lost=rarely,
    )
    def submit(
        self, web: int, owner: str, picture: bytes, max_words: int, key: str, webhook: bool, copies: int, lost: bool
    ) -> Any:
        submission = _submission(owner, max_words, key, f"one {picture!r} {max_words}", webhook)
        new: list[str] = []
        for _ in range(copies):
            ask = partial(self.producers[web].submit, submission, Picture(picture, 4, 3))
            made = self._request(submission, [picture], ask, lost)
            if made is None:
                continue
            assert made not in self.accepted
            self._accept(Accepted(made, owner, picture, max_words, webhook))
            job = self._await(self.producers[web].get(made, owner))
            assert job
            if job.status.terminal:
                assert job.status is Status.SUCCEEDED
                assert job.cached
                assert job.model
                assert job.model.version.encode() == self.redis.get(keys.MODEL)
            assert self._await(self.producers[1 - web].was_issued(made, owner))
            new.append(made)
        return multiple(*new)

    @rule(
        target=jobs,
        owner=owners,
        contents=st.lists(st.one_of(st.none(), pictures), min_size=1, max_size=4),
        max_words=wordiness,
        key=idempotency_keys,
        webhook=st.booleans(),
        lost=rarely,
    )
    def submit_batch(
        self, owner: str, contents: list[bytes | None], max_words: int, key: str, webhook: bool, lost: bool
    ) -> Any:
        submission = _submission(owner, max_words, key, f"batch {contents!r} {max_words}", webhook)
        files = [
            File(Picture(picture, 4, 3) if picture else _problem("no picture"), f"{n}.jpg")
            for n, picture in enumerate(contents)
        ]
        good = [picture for picture in contents if picture]
        made = self._request(submission, good, lambda: self.producers[0].submit_batch(submission, files), lost)
        if made is None:
            return multiple()
        self.batches.add(made)
        batch = self._await(self.producers[0].batch(made, owner))
        assert batch
        assert [job.name for job in batch.jobs] == [file.name for file in files]
        for job, picture in zip(batch.jobs, contents, strict=True):
            assert job.id not in self.accepted
            assert picture or job.status is Status.FAILED
            self._accept(Accepted(job.id, owner, picture or b"", max_words, webhook, refused=not picture))
        other = OWNERS[1 - OWNERS.index(owner)]
        assert self._await(self.producers[0].batch(made, other)) is None
        return multiple(*(job.id for job in batch.jobs))

    @rule(job_id=jobs, limit=st.integers(1, 3))
    def read_jobs(self, job_id: str, limit: int) -> None:
        for owner in OWNERS:
            job = self._await(self.producers[0].get(job_id, owner))
            assert bool(job) == (job_id in self.accepted and self.accepted[job_id].owner == owner)
            if job and job.status is Status.QUEUED:
                assert self._record(job_id)["deadline"] != "0"
            seen: list[str] = []
            while page := self._await(self.producers[0].latest(owner, limit, seen[-1] if seen else None)):
                seen += [job.id for job in page]
            assert seen == sorted((job.id for job in self.accepted.values() if job.owner == owner), reverse=True)

    @rule(job_id=jobs, lost=rarely)
    def follow(self, job_id: str, lost: bool) -> None:
        over = job_id not in self.accepted or _ended(self._record(job_id))
        before = self.redis.hexists(keys.record(job_id), "followed")
        with one_answer_lost(lost):
            self._await(self.producers[0].follow(job_id))
        assert self.redis.hexists(keys.record(job_id), "followed") == (before or not over)

    @rule(job_id=jobs, lost=rarely)
    def cancel(self, job_id: str, lost: bool) -> None:
        with one_answer_lost(lost):
            self._await(self.producers[0].cancel(job_id))
        if job_id in self.accepted:
            assert _ended(self._record(job_id))

    @rule(job_id=jobs, lost=rarely)
    def delete(self, job_id: str, lost: bool) -> None:
        with one_answer_lost(lost):
            self._await(self.producers[0].delete(job_id))
        self.accepted.pop(job_id, None)

    @rule(job_id=jobs)
    def let_the_deadline_pass(self, job_id: str) -> None:
        if job_id in self.accepted:
            self.redis.hset(keys.record(job_id), "deadline", 0)

    # Workers.

    @rule(target=claims, worker=workers, count=st.integers(1, 3), new=st.booleans())
    def claim(self, worker: int, count: int, new: bool) -> Any:
        return multiple(*(self._newly_claimed if new else self._taken_over)(worker, count))

    @rule(target=runs, claimed=claims, lost=rarely)
    def start(self, claimed: tuple[Worker, Claim], lost: bool) -> Any:
        return multiple(*self._started(*claimed, lost))

    @rule(target=runs, worker=workers, count=st.integers(1, 3))
    def claim_and_start(self, worker: int, count: int) -> Any:
        return multiple(*(run for claim in self._newly_claimed(worker, count) for run in self._started(*claim)))

    @rule(target=runs, worker=workers, count=st.integers(1, 3))
    def take_over_and_start(self, worker: int, count: int) -> Any:
        return multiple(*(run for claim in self._taken_over(worker, count) for run in self._started(*claim)))

    @rule(worker=workers, version=st.one_of(versions, st.just("")))
    def heartbeat(self, worker: int, version: str) -> None:
        current = self.workers[worker]
        holders = self._holders()
        held = {entry for entry in current.entries if holders.get(entry) == current.consumer.name}
        assert current.consumer.heartbeat(sorted(current.entries), version) == held

    @rule(run=runs, count=st.integers(1, 2), again=st.booleans(), lost=rarely)
    def publish_words(self, run: Run, count: int, again: bool, lost: bool) -> None:
        wanted = self._wanted(run)
        before = 0 if again else run.decided
        run.decided += count
        words = [json.dumps([run.claim.attempt, n]) for n in range(before, run.decided)]
        with one_answer_lost(lost):
            assert run.worker.consumer.publish_words([(run.claim, before, words)]) == (
                set() if wanted else {run.claim.entry}
            )
        assert run.worker.consumer.interest([run.claim]).unwanted == (set() if wanted else {run.claim.entry})
        if wanted:
            self.published[run.claim.job_id, run.claim.attempt] = run.decided

    @rule(run=runs, version=versions, well=st.booleans(), lost=rarely)
    def finish(self, run: Run, version: str, well: bool, lost: bool) -> None:
        self._finish(run, version, well, lost)

    @rule(run=consumes(runs), version=versions)
    def finish_well(self, run: Run, version: str) -> None:
        self._finish(run, version, well=True)

    @rule(worker=workers, how=st.sampled_from(("crash", "leave")))
    def replace_worker(self, worker: int, how: str) -> None:
        if how == "leave":
            holders = self._holders()
            self.workers[worker].consumer.leave(sorted(self.workers[worker].entries))
            assert holders.items() >= self._holders().items()
        self.workers[worker] = self._new_worker()

    @rule(worker=workers, names_too=st.booleans())
    def sweep(self, worker: int, names_too: bool) -> None:
        hasty = self.settings.model_copy(update={"takeover_seconds": 0.0001})
        (Consumer(self.stage.sync_client, hasty) if names_too else self.workers[worker].consumer).sweep()
        self.entries_lost = False

    # Operators and lost data.

    @rule(target=jobs, which=st.integers(0, 3), lost=rarely)
    def send_back(self, which: int, lost: bool) -> Any:
        letters = list(self.inspector.dead(10))
        if not letters:
            return multiple()
        letter = letters[which % len(letters)]
        before = self._keys_and_counts()
        try:
            with one_answer_lost(lost):
                new = self.inspector.send_back(letter.id)
        except QueueFull:
            assert self.redis.zcard(keys.ACTIVE) == MAX_JOBS
            assert self._keys_and_counts() == before
            return multiple()
        dead = self.accepted[letter.id]
        self._accept(Accepted(new, dead.owner, dead.picture, dead.max_words, webhook=False))
        with pytest.raises(NoSuchJob):
            self.inspector.send_back(letter.id)
        return new

    @precondition(lambda self: self.accepted)
    @rule(what=st.sampled_from(("stream", "group", "group", "entry", "entry", "everything")), which=st.integers(0, 5))
    def lose(self, what: str, which: int) -> None:
        entries = self.redis.xrange(keys.STREAM)
        if what == "stream":
            self.redis.delete(keys.STREAM)
        elif what == "group" and entries:
            self.redis.xgroup_destroy(keys.STREAM, keys.GROUP)
        elif what == "entry" and entries:
            self.redis.xdel(keys.STREAM, entries[which % len(entries)][0])
        elif what == "everything":
            self.redis.flushall()
            self.accepted.clear()
            self.batches.clear()
            self.requests.clear()
            self.submitted = 0
        self.entries_lost |= what in ("stream", "entry")

    # Invariants.

    @invariant()
    def every_job_is_in_a_valid_state(self) -> None:
        view = self._read_view()
        for job in self.accepted.values():
            self._check_history(job, view.records[job.id], view.events[job.id])
            if _ended(view.records[job.id]):
                self._check_end(job, view.records[job.id])
            elif not self.entries_lost:
                assert _will_be_run(job.id, view, self.redis), "no worker will ever run it"
        assert view.active == {job.id for job in self.accepted.values() if not job.end}
        assert len(view.active) <= MAX_JOBS
        for entry, job_id in view.entries.items():
            assert job_id in view.active
            assert view.records[job_id]["entry"] == entry
        self._check_leftovers(view)
        self._check_cache(view)
        self._check_counts(view)

    def teardown(self) -> None:
        if hasattr(self, "workers"):
            self._drain()
            self.every_job_is_in_a_valid_state()
            assert all(job.end for job in self.accepted.values())
            assert not self.redis.exists(keys.ACTIVE)
            assert self.redis.xlen(keys.STREAM) == 0
            assert self.redis.xpending(keys.STREAM, keys.GROUP)["pending"] == 0
            lasting = {key for key in self._keys() if self.redis.ttl(key) == -1}
            assert {_kind(key) for key in lasting} <= LASTING

    def _drain(self) -> None:
        """Let a healthy worker run all remaining jobs."""
        healthy = self._new_worker()
        self._make_idle()
        healthy.consumer.sweep()
        healthy.consumer.heartbeat([], "1a")
        for _ in range(5 * MAX_JOBS):
            claims = healthy.consumer.take_over(10)
            if not claims and self._something_new():
                claims = healthy.consumer.claim(10)
            for claim in healthy.consumer.start(claims):
                self._finish(Run(healthy, claim), "1a", well=True)

    # The model.

    def _request(
        self, submission: Submission, good: list[bytes], ask: Callable[[], Awaitable[str]], lost: bool
    ) -> str | None:
        """Return the id that a request created, if any. Check that it changed nothing otherwise."""
        before, active = self._keys_and_counts(), self.redis.zcard(keys.ACTIVE)
        fingerprint, earlier = self.requests.get((submission.owner, submission.idempotency), ("", ""))
        if earlier not in self.accepted and earlier not in self.batches:
            earlier = ""
        try:
            with one_answer_lost(lost):
                made = self._await(ask())
        except KeyReused:
            assert earlier
            assert fingerprint != submission.fingerprint
        except QueueFull:
            assert not earlier
            assert active + len(good) > MAX_JOBS
        else:
            if not earlier:
                if submission.idempotency:
                    self.requests[submission.owner, submission.idempotency] = submission.fingerprint, made
                return made
            assert fingerprint == submission.fingerprint
            assert made == earlier
        assert self._keys_and_counts() == before
        return None

    def _accept(self, job: Accepted) -> None:
        self.accepted[job.id] = job
        self.submitted += 1

    def _started(self, worker: Worker, claim: Claim, lost: bool = False) -> list[Run]:
        before, held = self._record(claim.job_id), self._holders().get(claim.entry) == worker.consumer.name
        with one_answer_lost(lost):
            started = worker.consumer.start([claim])
        after = self._record(claim.job_id)
        begun = int(after.get("attempt", 0)) - int(before.get("attempt", 0))
        assert begun in ((0, 1) if started else (0,))
        for one in started:
            assert held
            assert after["status"] == Status.PROCESSING
            assert int(after["attempt"]) == one.attempt <= self.settings.max_attempts
        # A repeated call may return the same attempt, whose words are published already.
        return [Run(worker, one, self.published.get((one.job_id, one.attempt), 0)) for one in started]

    def _finish(self, run: Run, version: str, well: bool, lost: bool = False) -> None:
        job_id, consumer = run.claim.job_id, run.worker.consumer
        before, wanted = self._record(job_id), self._wanted(run)
        assert run.claim.options
        result = _result(f"{job_id} {run.claim.options.max_words} {version} {run.claim.attempt}", version)
        problem = _problem(f"{job_id} {run.claim.attempt}")
        ours = {"result": result.model_dump_json()} if well else {"error": problem.model_dump_json()}
        with one_answer_lost(lost):
            taken = consumer.succeed(run.claim, result) if well else consumer.fail(run.claim, problem)
        after = self._record(job_id)
        assert taken == (ours.items() <= after.items())
        assert taken or not wanted
        if not wanted:
            assert after == before

    def _check_history(self, job: Accepted, record: dict[str, str], events: list[tuple[str, str, str]]) -> None:
        assert events[: len(job.events)] == job.events, "past events were changed"
        job.events = events
        names = [name for _, name, _ in events if name != "word"]
        assert names[0] == Status.QUEUED
        assert names.count(Status.QUEUED) == 1
        terminal = [name for name in names if Status(name).terminal]
        assert terminal == ([record["status"]] if _ended(record) else [])
        if terminal:
            assert events[-1][1] == terminal[0]
        attempts: list[int] = []
        words: list[int] = []
        for _, name, data in events:
            if name == Status.PROCESSING:
                attempts.append(json.loads(data)["attempt"])
                words = []
            elif name == "word":
                attempt, word = json.loads(data)
                assert attempt == attempts[-1]
                assert word == len(words), "a word is missing, or published twice"
                words.append(word)
        assert attempts == list(range(1, int(record["attempt"]) + 1))
        if record["status"] == Status.PROCESSING:
            assert attempts

    def _check_end(self, job: Accepted, record: dict[str, str]) -> None:
        kept = ("status", "result", "error", "text", "completed", "attempt", "cached")
        end = {name: record[name] for name in kept if name in record}
        assert job.end in (None, end), "a finished job was changed"
        if job.end:
            return
        job.end = end
        assert ("result" in end) == (end["status"] == Status.SUCCEEDED)
        assert ("error" in end) == (end["status"] == Status.FAILED)
        if "result" in end:
            by, max_words, version, _ = end["text"].split()
            assert json.loads(end["result"])["model"]["version"] == version
            assert max_words == str(job.max_words)
            # The job that was run may have been deleted or lost since.
            if other := self.accepted.get(by):
                assert (other.owner, other.picture, other.max_words) == (job.owner, job.picture, job.max_words)
            assert (by != job.id) == ("cached" in end)

    def _check_leftovers(self, view: View) -> None:
        for key in view.keys:
            if _kind(key) in ("job", "image", "events", "twins", "deliveries"):
                assert key.rpartition(":")[2] in self.accepted, "a key of a deleted job"
        assert view.listed <= self.accepted.keys()
        over = {job.id for job in self.accepted.values() if job.end}
        assert view.webhooks == {job_id for job_id in over if self.accepted[job_id].webhook}
        for job_id in view.dead:
            assert job_id in over
            assert self.redis.get(keys.image(job_id)) == self.accepted[job_id].picture
        for job_id in view.active:
            assert self.redis.get(keys.image(job_id)) == self.accepted[job_id].picture

    def _check_cache(self, view: View) -> None:
        for name, job_id in view.cached.items():
            end = self.accepted[job_id].end
            assert not end or end["status"] == Status.SUCCEEDED, "a failure is cached"
            assert not end or end["text"].split()[2] == name.split(":")[-2], "cached for another captioner"

    def _check_counts(self, view: View) -> None:
        finished = sum(count for name, count in view.counts.items() if name.startswith("jobs_finished|"))
        assert view.counts.get("jobs_submitted", 0) == self.submitted == finished + len(view.active)

    # Valkey.

    def _read_view(self) -> View:
        job_ids = list(self.accepted)
        pipeline = self.redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(keys.record(job_id))
            pipeline.xrange(keys.events(job_id))
        pipeline.zrange(keys.ACTIVE, 0, -1)
        pipeline.xrange(keys.STREAM)
        pipeline.keys("*")
        pipeline.hgetall(keys.COUNTS)
        pipeline.xrange(keys.DEAD)
        pipeline.zrange(keys.WEBHOOKS, 0, -1)
        lists = (keys.PICTURES, keys.EXPIRING, *map(keys.owned, OWNERS))
        for name in lists:
            pipeline.zrange(name, 0, -1)
        answers = pipeline.execute()
        listed = [job_id.decode().partition(":")[0] for members in answers[-len(lists) :] for job_id in members]
        *of_jobs, active, entries, names, counts, dead, webhooks = answers[: -len(lists)]
        cached = [name for name in names if b":cache:" in name]
        return View(
            records={job_id: _text(record) for job_id, record in zip(job_ids, of_jobs[::2], strict=True)},
            events={
                job_id: [(entry.decode(), row[b"event"].decode(), row[b"data"].decode()) for entry, row in rows]
                for job_id, rows in zip(job_ids, of_jobs[1::2], strict=True)
            },
            active={job_id.decode() for job_id in active},
            entries={entry.decode(): fields[b"job"].decode() for entry, fields in entries},
            keys={name.decode() for name in names},
            counts={name: int(count) for name, count in _text(counts).items()},
            dead=[fields[b"job"].decode() for _, fields in dead],
            webhooks={job_id.decode() for job_id in webhooks},
            listed=set(listed),
            cached={name.decode(): self.redis.get(name).decode() for name in cached},
        )

    def _record(self, job_id: str) -> dict[str, str]:
        return _text(self.redis.hgetall(keys.record(job_id)))

    def _keys(self) -> set[str]:
        return {key.decode() for key in self.redis.keys("*")}

    def _keys_and_counts(self) -> tuple[set[str], dict[str, str]]:
        return self._keys(), _text(self.redis.hgetall(keys.COUNTS))

    def _wanted(self, run: Run) -> bool:
        record = self._record(run.claim.job_id)
        return record.get("status") == Status.PROCESSING and record["attempt"] == str(run.claim.attempt)

    def _something_new(self) -> bool:
        """Whether the next claim returns at once."""
        try:
            groups = self.redis.xinfo_groups(keys.STREAM)
        except ResponseError:
            return True
        return not groups or bool(self.redis.xrange(keys.STREAM, b"(" + groups[0]["last-delivered-id"], count=1))

    def _holders(self) -> dict[str, str]:
        """Return the worker that holds each entry."""
        try:
            pending = self.redis.xpending_range(keys.STREAM, keys.GROUP, "-", "+", 100)
        except ResponseError:
            return {}
        return {entry["message_id"].decode(): entry["consumer"].decode() for entry in pending}

    def _newly_claimed(self, worker: int, count: int) -> list[tuple[Worker, Claim]]:
        current = self.workers[worker]
        return self._claimed(current, current.consumer.claim(count)) if self._something_new() else []

    def _taken_over(self, worker: int, count: int) -> list[tuple[Worker, Claim]]:
        """Claim jobs of all other workers, which look silent: they may be dead, stopped or signed off."""
        current = self.workers[worker]
        self._make_idle(besides=current)
        return self._claimed(current, current.consumer.take_over(count))

    def _claimed(self, worker: Worker, claims: list[Claim]) -> list[tuple[Worker, Claim]]:
        worker.entries |= {claim.entry for claim in claims}
        for claim in claims:
            job = self.accepted[claim.job_id]
            assert claim.image == job.picture
            assert claim.options == CaptionOptions(max_words=job.max_words)
        return [(worker, claim) for claim in claims]

    def _make_idle(self, besides: Worker | None = None) -> None:
        """Make all entries of other workers look idle for long."""
        for entry, name in self._holders().items():
            if not besides or name != besides.consumer.name:
                self.redis.xclaim(keys.STREAM, keys.GROUP, name, 0, [entry], idle=IDLE_MS, justid=True)

    def _new_worker(self) -> Worker:
        return Worker(Consumer(self.stage.sync_client, self.settings))

    def _await(self, answer: Awaitable[T]) -> T:
        async def act() -> T:
            return await answer

        return self.stage.runner.run(act())


def _submission(owner: str, max_words: int, key: str, fingerprint: str, webhook: bool) -> Submission:
    return Submission(
        CaptionOptions(max_words=max_words),
        owner=owner,
        webhook_url="http://receiver.test/" if webhook else "",
        idempotency=key,
        fingerprint=fingerprint,
    )


def _problem(detail: str) -> Problem:
    return Problem.of("test", "Test", 500, detail)


def _result(text: str, version: str) -> Result:
    return Result(model=ModelInfo(name="m", version=version), captions=[Caption(text=text, logprob=-1.0, words=[])])


def _text(record: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in record.items()}


def _kind(key: str) -> str:
    return key.removeprefix(keys.TAG).partition(":")[0]


def _ended(record: dict[str, str]) -> bool:
    return Status(record["status"]).terminal


def _will_be_run(job_id: str, view: View, redis: Redis) -> bool:
    """Whether a worker will claim the job, or the leader whose result it waits for."""
    record = view.records[job_id]
    if leader := record.get("leader"):
        waits = bool(redis.sismember(keys.twins(leader), job_id))
        return waits and leader in view.active and _will_be_run(leader, view, redis)
    return view.entries.get(record["entry"]) == job_id


@pytest.fixture
def stage(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Clients that can lose answers, except the test's own; ids increase in the order of their creation."""
    numbers = itertools.count()
    monkeypatch.setattr(ids, "secrets", SimpleNamespace(token_bytes=lambda size: next(numbers).to_bytes(size, "big")))
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        clients = [losing_async(connect_async(redis_url)) for _ in range(2)]
        redis, lossy = stack.enter_context(connect(redis_url)), stack.enter_context(losing(connect(redis_url)))
        yield Stage(runner, redis, lossy, (clients[0], clients[1]))
        for client in clients:
            runner.run(client.aclose())


def play(stage: Stage, examples: int, steps: int) -> None:
    """Let Hypothesis look for a sequence of steps that breaks an invariant."""
    run_state_machine_as_test(
        lambda: QueueMachine(stage),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_accepted_job_ends_once(stage: Stage) -> None:
    play(stage, examples=100, steps=50)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_accepted_job_ends_once_in_longer_sequences(stage: Stage) -> None:
    play(stage, examples=800, steps=80)
