"""Talks with the service: what is asked, asked again, and waited for, whoever sends it.

In: requests; out: results. A talk is a generator: it yields what is to be done (send a request, or pause), is told
what came of it, and returns a result. The two clients carry talks out, one in a thread and one in an event loop; so
what they do is written once. It must not know sockets.
"""

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from jobs.job import Batch, Job, Status
from wordlight.client.errors import ClientError, JobFailed, TookTooLong, Unreachable, error_of
from wordlight.client.wire import BATCHES, CAPTIONS, LONGEST_WAIT, JobPage, Request, one, read, read_job

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0

Result = TypeVar("Result")
WaitedFor = TypeVar("WaitedFor", Job, Batch)


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is to be done for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes


Talk = Generator[Request | Pause, Answer | None, Result]


class Retries:
    """How long to wait before one request is sent again, and when to give up."""

    def __init__(self, patience: float) -> None:
        """`patience`: the seconds of all pauses of a request together."""
        self._left = patience
        self._next = _FIRST_PAUSE

    def pause(self, error: ClientError) -> Pause:
        """The pause before another try; raises the error where that is hopeless, or would be too late.

        What the service says counts; without it, pauses double, and are of random length, lest all come back at once.
        """
        if not getattr(error, "passing", True):
            raise error
        told: float | None = getattr(error, "retry_after", None)
        seconds = random.uniform(self._next / 2, self._next) if told is None else told + random.uniform(0, 0.5)
        self._next = min(2 * self._next, _LONGEST_PAUSE)
        if seconds > self._left:
            raise error
        self._left -= seconds
        return Pause(seconds)


def asked(request: Request, patience: float) -> Talk[Answer]:
    """The answer to a request, which is sent again while that may help.

    Every request of ours may be: submissions carry an Idempotency-Key. Raises ClientError.
    """
    retries = Retries(patience)
    while True:
        try:
            answer = yield request
            assert answer is not None
            if answer.status < 300:
                return answer
            raise error_of(answer.status, answer.headers, answer.content)
        except ClientError as error:
            pause = retries.pause(error)
        yield pause


def job_of(request: Request, patience: float) -> Talk[Job]:
    """The job that is the answer to a request."""
    answer = yield from asked(request, patience)
    return read_job(answer.content)


def batch_of(request: Request, patience: float) -> Talk[Batch]:
    """The batch that is the answer to a request."""
    answer = yield from asked(request, patience)
    return read(Batch, answer.content)


def page_of(request: Request, patience: float) -> Talk[JobPage]:
    """The page of jobs that is the answer to a request."""
    answer = yield from asked(request, patience)
    return read(JobPage, answer.content)


def content_of(request: Request, patience: float) -> Talk[bytes]:
    """What the answer to a request holds."""
    answer = yield from asked(request, patience)
    return answer.content


def captioned(request: Request, patience: float, timeout: float | None) -> Talk[Job]:
    """The job of a submission once it has succeeded. Raises JobFailed and TookTooLong, besides."""
    started = time.monotonic()
    job = yield from job_of(request, patience)
    left = None if timeout is None else timeout - (time.monotonic() - started)
    return succeeded((yield from finished_job(job, patience, left)))


def succeeded(job: Job) -> Job:
    """The job, if there are captions in it. Raises JobFailed."""
    if job.status is not Status.SUCCEEDED:
        raise JobFailed(job)
    return job


def finished_job(job: Job | str, patience: float, timeout: float | None) -> Talk[Job]:
    """The job, or that of this id, when it is over, however it ended. Raises TookTooLong."""
    job_id = job if isinstance(job, str) else job.id

    def look(wait: float) -> Talk[Job]:
        return job_of(one(CAPTIONS, job_id, wait=wait), patience)

    return (yield from _finished(job, lambda job: job.status.terminal, look, timeout))


def finished_batch(batch: Batch | str, patience: float, timeout: float | None) -> Talk[Batch]:
    """The batch, or that of this id, when all of its jobs are over. Raises TookTooLong."""
    batch_id = batch if isinstance(batch, str) else batch.id

    def look(wait: float) -> Talk[Batch]:
        return batch_of(one(BATCHES, batch_id, wait=wait), patience)

    return (yield from _finished(batch, lambda batch: batch.done, look, timeout))


def _finished(
    asked_for: WaitedFor | str,
    over: Callable[[WaitedFor], bool],
    look: Callable[[float], Talk[WaitedFor]],
    timeout: float | None,
) -> Talk[WaitedFor]:
    """Asks at once where only the id is known; then with answers that are held back, one by one, until it is over."""
    found = (yield from look(0)) if isinstance(asked_for, str) else asked_for
    deadline = None if timeout is None else time.monotonic() + timeout
    while not over(found):
        began = time.monotonic()
        left = LONGEST_WAIT if deadline is None else deadline - began
        if left <= 0:
            raise TookTooLong(found)
        wait = max(1.0, min(left, LONGEST_WAIT))
        found = yield from look(wait)
        # A service that is about to stop holds nothing back.
        if not over(found) and time.monotonic() - began < wait / 2:
            yield Pause(min(_FIRST_PAUSE, left))
    return found


def no_answer(error: Exception | str) -> Unreachable:
    """The error when nothing came back."""
    return Unreachable(f"no answer: {str(error) or type(error).__name__}")
