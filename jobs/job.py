"""The contract: a job, its result, and how both are stored in Redis.

HTTP clients read the same models as JSON. The golden files in tests/jobs/golden pin the bytes.
"""

from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from jobs.options import Options, read_options
from jobs.problem import Problem

Record = dict[bytes, bytes]

# The options of a record without options, as version 0.1.0 wrote them.
NO_OPTIONS = b'{"kind":"caption"}'


class Status(StrEnum):
    """The state of a job. The last four are terminal: a job reaches exactly one of them, once."""

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


class WordMap(BaseModel):
    """A map of one word: weights over the whole upright picture, row by row. They sum to 1."""

    rows: int
    cols: int
    weights: list[float]


class Word(BaseModel):
    """A word, the natural logarithm of its probability, and its maps."""

    text: str
    logprob: float
    in_vocabulary: bool = Field(True, description="false: the captioner never learned the word and reads it as <unk>")
    visual_grounding: float = Field(
        1.0,
        description='the share of attention that goes to the picture (1 - beta of adaptive attention): little for "of"',
    )
    attention: WordMap | None = Field(
        None,
        description="the decoder's own attention weights over the places of the picture when it wrote the word; "
        "null unless `attention=both`",
    )
    heatmap: WordMap | None = Field(
        None,
        description="the evidence map that is drawn and that pointing is measured on: attention times what the word "
        "detector sees of the word in each place, smoothed; the same as `attention` for a word without a detector; "
        "null with `attention=none`",
    )


class Caption(BaseModel):
    """A sentence. `logprob` includes the decision to end it."""

    text: str
    logprob: float
    confidence: float | None = Field(None, description="the probability that it is right; null: not calibrated")
    confident: bool | None = Field(None, description="whether `confidence` reaches the captioner's threshold")
    words: list[Word]


class WordEvent(BaseModel):
    """The data of an event `word`: a word of a caption that has just been decided."""

    attempt: int
    caption: int
    position: int
    word: Word


class ModelInfo(BaseModel):
    """Which captioner wrote the captions; `version` is the head of the SHA-256 of its files."""

    name: str
    version: str


class Result(BaseModel):
    """The result of a job."""

    model: ModelInfo
    captions: list[Caption]


class ImageSize(BaseModel):
    """The size of the upright original in pixels."""

    width: int
    height: int


class Job(BaseModel):
    """A job as clients see it."""

    id: str
    name: str | None = Field(description="name of the file; null outside a batch")
    batch: str | None = Field(description="id of the job's batch")
    status: Status
    created_at: datetime
    started_at: datetime | None = Field(description="start of the latest attempt")
    completed_at: datetime | None
    expires_at: datetime = Field(
        description="when the finished job is deleted; before it begins: when it expires unless it begins"
    )
    attempts: int = Field(description="how often a worker has begun the job; more than 1 means that a worker died")
    cached: bool = Field(description="whether the result is of another job with the same pixels, options and captioner")
    image: ImageSize
    options: Options
    model: ModelInfo | None
    captions: list[Caption] = Field(
        description="best first, sampled ones in the order of sampling; empty until the job succeeds"
    )
    error: Problem | None

    @classmethod
    def from_record(cls, job_id: str, record: Record, keep_seconds: int) -> "Job":
        """Read a job from its Redis hash. A finished job is kept for `keep_seconds`."""
        result = Result.model_validate_json(record[b"result"]) if b"result" in record else None
        completed = int(record[b"completed"]) if b"completed" in record else None
        return cls(
            id=job_id,
            name=_text(record, b"name"),
            batch=_text(record, b"batch"),
            status=Status(record[b"status"].decode()),
            created_at=_moment(record[b"created"]),
            started_at=_moment(record[b"started"]) if b"started" in record else None,
            completed_at=_moment(completed) if completed else None,
            expires_at=_moment(completed + keep_seconds * 1000 if completed else record[b"deadline"]),
            attempts=int(record[b"attempt"]),
            cached=b"cached" in record,
            image=ImageSize(width=int(record[b"width"]), height=int(record[b"height"])),
            options=read_options(record.get(b"options", NO_OPTIONS)),
            model=result.model if result else None,
            captions=result.captions if result else [],
            error=_problem(record),
        )


class JobSummary(BaseModel):
    """A job in a list: without its captions' words."""

    id: str
    name: str | None = Field(description="name of the file; null outside a batch")
    status: Status
    created_at: datetime
    completed_at: datetime | None
    text: str | None = Field(description="the best caption; null until the job succeeds")
    error: Problem | None

    @classmethod
    def from_record(cls, job_id: str, record: Record) -> "JobSummary":
        """Read a summary from the fields `SUMMARY` of a job's Redis hash."""
        return cls(
            id=job_id,
            name=_text(record, b"name"),
            status=Status(record[b"status"].decode()),
            created_at=_moment(record[b"created"]),
            completed_at=_moment(record[b"completed"]) if b"completed" in record else None,
            text=_text(record, b"text"),
            error=_problem(record),
        )


SUMMARY = ("name", "status", "created", "completed", "text", "error")


class Batch(BaseModel):
    """The jobs of one request."""

    id: str
    created_at: datetime
    done: bool = Field(description="whether all of its jobs are over")
    counts: dict[Status, int] = Field(description="number of jobs in each state")
    jobs: list[JobSummary] = Field(description="in the order of the files, without deleted and expired jobs")

    @classmethod
    def of(cls, batch_id: str, created: bytes, jobs: list[JobSummary]) -> "Batch":
        """Create a batch from the summaries of its jobs."""
        counts = {status: sum(job.status is status for job in jobs) for status in Status}
        return cls(
            id=batch_id,
            created_at=_moment(created),
            done=all(job.status.terminal for job in jobs),
            counts=counts,
            jobs=jobs,
        )


def _moment(milliseconds: bytes | int) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _text(record: Record, field: bytes) -> str | None:
    return record[field].decode() if field in record else None


def _problem(record: Record) -> Problem | None:
    return Problem.model_validate_json(record[b"error"]) if b"error" in record else None
