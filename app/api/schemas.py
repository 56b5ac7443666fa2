"""The resources in answers: jobs and batches with links, lists of jobs, queue positions, and problems in OpenAPI."""

from typing import Any

from pydantic import BaseModel, Field

from jobs.job import Batch, Job, JobSummary
from jobs.options import AttentionMaps
from jobs.problem import Problem

CAPTIONS, BATCHES = "/v1/captions", "/v1/batches"

PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}


def problems(**kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe the problems of a route in its OpenAPI `responses`: problems(_404="there is no such job", ...)."""
    return {int(status.removeprefix("_")): {"description": text, **PROBLEM} for status, text in kinds.items()}


class JobLinks(BaseModel):
    """URLs of a job and of what belongs to it."""

    self: str
    events: str = Field(description="server-sent events; needs no key, for EventSource in browsers")
    cancel: str
    queue_position: str = Field(description="the number of earlier jobs that have not ended")
    picture: str = Field(description="the stored picture, upright, as long as it is stored")
    sheet: str | None = Field(description="a contact sheet of the heatmaps of the best caption's words")


class JobResource(Job):
    """A job with its links."""

    links: JobLinks

    @staticmethod
    def of(job: Job, ticket: str) -> "JobResource":
        """Create the resource. `ticket` gives access to the job's events; "" where keys are not required."""
        home = f"{CAPTIONS}/{job.id}"
        has_sheet = job.captions and job.options.attention is not AttentionMaps.NONE
        links = JobLinks(
            self=home,
            events=f"{home}/events" + (f"?ticket={ticket}" if ticket else ""),
            cancel=f"{home}/cancel",
            queue_position=f"{home}/queue-position",
            picture=f"{home}/picture.jpg",
            sheet=f"{home}/captions/0/sheet.png" if has_sheet else None,
        )
        return JobResource.model_construct(**dict(job), links=links)


class JobList(BaseModel):
    """A page in the list of a caller's jobs."""

    jobs: list[JobSummary] = Field(description="the newest first")
    next: str | None = Field(description="URL of the next page, with older jobs")


class QueuePosition(BaseModel):
    """Where a job is in the queue."""

    ahead: int | None = Field(description="earlier jobs of all clients that have not ended; null if this one has ended")


class BatchLinks(BaseModel):
    """URLs of a batch and of what belongs to it."""

    self: str
    cancel: str


class BatchResource(Batch):
    """A batch with its links."""

    links: BatchLinks

    @staticmethod
    def of_batch(batch: Batch) -> "BatchResource":
        """Create the resource."""
        home = f"{BATCHES}/{batch.id}"
        return BatchResource.model_construct(**dict(batch), links=BatchLinks(self=home, cancel=f"{home}/cancel"))
