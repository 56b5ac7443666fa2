"""What can go wrong between a client and the service. In: answers that are errors; out: exceptions of one family."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import ValidationError

from jobs.job import Batch, Job
from jobs.problem import Problem

# What may be otherwise when it is asked again: limits, a service that is full or restarting, proxies without one.
_PASSING = frozenset({429, 502, 503, 504})


class ClientError(Exception):
    """All that a client raises, besides OSError for files that cannot be read."""


class Unreachable(ClientError):
    """No answer came: no connection, or one that broke, however often it was tried. The message is one line."""


class NotUnderstood(ClientError):
    """The answer is none of a Wordlight that we know."""

    passing = False


class ProblemAnswer(ClientError):
    """The service says no; `problem` says why, `problem.kind` in one word for programs."""

    def __init__(self, problem: Problem, retry_after: float | None) -> None:
        """`retry_after`: after so many seconds it may be otherwise; None: the service does not say so."""
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.problem.status in _PASSING


class NotAllowed(ProblemAnswer):
    """401 or 403: no key, a wrong one, or one without the scope for this."""


class RateLimited(ProblemAnswer):
    """429: more pictures than the key may send."""

    @property
    def passing(self) -> bool:
        """A limit that says no time is one that this request will never be under."""
        return self.retry_after is not None


class Unavailable(ProblemAnswer):
    """503: the queue is full, cannot be reached, or the service is busy."""


class JobFailed(ClientError):
    """The job is over without captions: it failed, was canceled or expired. `job.error` says why it failed."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.error.detail if job.error else f"job {job.id} is {job.status.value}")
        self.job = job


class TookTooLong(ClientError):
    """What was waited for is not over within the time; it goes on, and can be waited for again."""

    def __init__(self, waited_for: Job | Batch) -> None:
        super().__init__(f"{waited_for.id} is not over yet")
        self.waited_for = waited_for


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ProblemAnswer:
    """The error in an answer; one that comes from somebody else than the service, such as a proxy, has less to say."""
    try:
        problem = Problem.model_validate_json(content)
    except ValidationError:
        problem = Problem(type="about:blank", title="Error", status=status, detail=f"the answer is {status}")
    kind = {401: NotAllowed, 403: NotAllowed, 429: RateLimited, 503: Unavailable}.get(status, ProblemAnswer)
    return kind(problem, _seconds(headers.get("retry-after")))


def _seconds(retry_after: str | None) -> float | None:
    """The seconds in a Retry-After, which may be a moment (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())
