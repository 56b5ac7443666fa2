"""The exceptions of the client."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import ValidationError

from jobs.job import Batch, Job
from jobs.problem import Problem

# A later attempt may succeed: limits, a service that is full or restarting, a proxy that cannot reach it.
_RETRYABLE = frozenset({429, 502, 503, 504})


class ClientError(Exception):
    """Base class of all errors of the client. Besides these, it raises OSError for files that cannot be read."""


class Unreachable(ClientError):
    """No answer after all attempts: no connection, or broken ones. The message is one line."""


class NotUnderstood(ClientError):
    """The answer does not come from a Wordlight service."""

    retryable = False


class ProblemAnswer(ClientError):
    """The service refused the request. `problem` says why; programs compare `problem.kind`."""

    def __init__(self, problem: Problem, retry_after: float | None) -> None:
        """`retry_after` is the number of seconds after which another attempt may succeed, if the service says so."""
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.problem.status in _RETRYABLE


class NotAllowed(ProblemAnswer):
    """401 or 403: the key is missing, wrong, or lacks a scope."""


class RateLimited(ProblemAnswer):
    """429: the key's rate limit is reached."""

    @property
    def retryable(self) -> bool:
        """Whether the request may succeed later. Without `retry_after`, it exceeds the limit by itself."""
        return self.retry_after is not None


class Unavailable(ProblemAnswer):
    """503: the queue is full or unreachable, or the service is busy."""


class JobFailed(ClientError):
    """The job failed, was canceled or expired. `job.error` says why it failed."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.error.detail if job.error else f"job {job.id} is {job.status.value}")
        self.job = job


class TookTooLong(ClientError):
    """The job or batch is not over within the timeout. It continues, and you can wait for it again."""

    def __init__(self, waited_for: Job | Batch) -> None:
        super().__init__(f"{waited_for.id} is not over yet")
        self.waited_for = waited_for


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ProblemAnswer:
    """Convert an answer to an error. The answer may come from a proxy and hold no problem."""
    try:
        problem = Problem.model_validate_json(content)
    except ValidationError:
        problem = Problem(type="about:blank", title="Error", status=status, detail=f"the answer is {status}")
    kind = {401: NotAllowed, 403: NotAllowed, 429: RateLimited, 503: Unavailable}.get(status, ProblemAnswer)
    return kind(problem, _seconds(headers.get("retry-after")))


def unreachable(error: Exception | str) -> Unreachable:
    """Return the error for a connection that failed."""
    return Unreachable(f"no answer: {str(error) or type(error).__name__}")


def _seconds(retry_after: str | None) -> float | None:
    """Convert Retry-After to seconds. It holds seconds or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())
