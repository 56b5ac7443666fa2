"""What clients see: jobs with the addresses of what can be done with them, lists, and how they read in OpenAPI.

In: jobs as the queue knows them; out: answers. It must not know how requests are answered.
"""

from typing import Any

from pydantic import BaseModel, Field

from jobs.job import Batch, Job, JobSummary
from jobs.options import AttentionMaps
from jobs.problem import Problem

CAPTIONS, BATCHES = "/v1/captions", "/v1/batches"

PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}


def problems(**kinds: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems: _404="no such job", ..."""
    return {int(status.removeprefix("_")): {"description": text, **PROBLEM} for status, text in kinds.items()}


class JobLinks(BaseModel):
    """Where to go on from a job."""

    self: str
    events: str = Field(description="server-sent events; may be opened without a key, by a browser's EventSource")
    cancel: str
    place: str = Field(description="how many jobs are ahead of it")
    picture: str = Field(description="the upright picture, as small as it is kept, as long as it is")
    sheet: str | None = Field(description="a picture of the best caption with the heatmap of each word")


class JobResource(Job):
    """A job, and where to go on from it."""

    links: JobLinks

    @staticmethod
    def of(job: Job, ticket: str) -> "JobResource":
        """`ticket` opens the job's events; "" where none is needed."""
        home = f"{CAPTIONS}/{job.id}"
        drawn = job.captions and job.options.attention is not AttentionMaps.NONE
        links = JobLinks(
            self=home,
            events=f"{home}/events" + (f"?ticket={ticket}" if ticket else ""),
            cancel=f"{home}/cancel",
            place=f"{home}/place",
            picture=f"{home}/picture.jpg",
            sheet=f"{home}/captions/0/sheet.png" if drawn else None,
        )
        return JobResource.model_construct(**dict(job), links=links)


class JobList(BaseModel):
    """A page of a caller's jobs."""

    jobs: list[JobSummary] = Field(description="the newest first")
    next: str | None = Field(description="address of the next page, with older jobs")


class BatchLinks(BaseModel):
    """Where to go on from a batch."""

    self: str
    cancel: str


class BatchResource(Batch):
    """A batch, and where to go on from it."""

    links: BatchLinks

    @staticmethod
    def of_batch(batch: Batch) -> "BatchResource":
        """The batch as clients see it."""
        home = f"{BATCHES}/{batch.id}"
        return BatchResource.model_construct(**dict(batch), links=BatchLinks(self=home, cancel=f"{home}/cancel"))
