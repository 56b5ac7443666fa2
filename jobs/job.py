"""The contract: what a job is, what its result looks like, and how both are written down in Redis.

In: the fields of a record; out: a `Job`, which is also what HTTP clients read. Plain data: it must not know how
captions are made or how requests arrive. The golden files in tests/golden pin the bytes.
"""

from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from jobs.problem import Problem


class Status(StrEnum):
    """Where a job is on its road. The last four are terminal: a job reaches exactly one of them, once."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether the job is over."""
        return self not in (Status.QUEUED, Status.PROCESSING)


class Attention(BaseModel):
    """Where a word looked: weights of a grid over the whole upright picture, row by row, that sum to 1."""

    rows: int
    cols: int
    weights: list[float]


class Word(BaseModel):
    """A word, the natural logarithm of its probability, and where it looked."""

    text: str
    logprob: float
    attention: Attention


class Caption(BaseModel):
    """A sentence. `logprob` includes the decision to end it."""

    text: str
    logprob: float
    words: list[Word]


class ModelInfo(BaseModel):
    """Which captioner wrote the captions; `version` is the head of the SHA-256 of its files."""

    name: str
    version: str


class Result(BaseModel):
    """What a worker found out."""

    model: ModelInfo
    captions: list[Caption]


class ImageSize(BaseModel):
    """The size of the upright picture as it was sent, in pixels."""

    width: int
    height: int


class Job(BaseModel):
    """A job as everyone sees it."""

    id: str
    status: Status
    created_at: datetime
    started_at: datetime | None = Field(description="when the latest attempt began")
    completed_at: datetime | None
    attempts: int = Field(description="how often a worker has begun it; more than one means that a worker died")
    image: ImageSize
    model: ModelInfo | None
    captions: list[Caption] = Field(description="best first; empty until the job has succeeded")
    error: Problem | None

    @classmethod
    def queued(cls, job_id: str, created: int, width: int, height: int) -> "Job":
        """A job that was just taken in, at `created` in ms."""
        return cls(
            id=job_id,
            status=Status.QUEUED,
            created_at=_moment(created),
            started_at=None,
            completed_at=None,
            attempts=0,
            image=ImageSize(width=width, height=height),
            model=None,
            captions=[],
            error=None,
        )

    @classmethod
    def from_record(cls, job_id: str, record: dict[bytes, bytes]) -> "Job":
        """Read a job from its Redis hash, as jobs/scripts/*.lua write it."""
        result = Result.model_validate_json(record[b"result"]) if b"result" in record else None
        return cls(
            id=job_id,
            status=Status(record[b"status"].decode()),
            created_at=_moment(record[b"created"]),
            started_at=_moment(record[b"started"]) if b"started" in record else None,
            completed_at=_moment(record[b"completed"]) if b"completed" in record else None,
            attempts=int(record[b"attempt"]),
            image=ImageSize(width=int(record[b"width"]), height=int(record[b"height"])),
            model=result.model if result else None,
            captions=result.captions if result else [],
            error=Problem.model_validate_json(record[b"error"]) if b"error" in record else None,
        )


def _moment(milliseconds: bytes | int) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
