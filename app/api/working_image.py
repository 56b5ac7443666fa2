"""The route of a job's picture, as small as it is kept: so a page that was closed can show it again.

In: requests; out: the working image, a JPEG of our own making. It must not know what is drawn over it.
"""

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from app.api.captions import ExistingJob
from app.api.schemas import CAPTIONS, problems
from app.problems import ProblemError
from app.services import Services, Shared
from jobs.job import Job

_RESPONSES = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    **problems(
        _404="there is no such job",
        _410="the job was deleted or its time is over, or its picture is gone",
        _503="the queue cannot be reached",
    ),
}

router = APIRouter(prefix=CAPTIONS, tags=["captions"], responses=_RESPONSES)


class Jpeg(Response):
    """A response that is a JPEG, in the documentation of the API too."""

    media_type = "image/jpeg"


@router.get("/{job_id}/picture.jpg", response_class=Jpeg)
async def picture(services: Shared, job: ExistingJob) -> Response:
    """The upright picture, as small as it is kept."""
    data = await working_image(services, job)
    return Jpeg(data, headers={"Cache-Control": f"private, max-age={seconds_kept(job)}"})


async def working_image(services: Services, job: Job) -> bytes:
    """The job's working image. Raises the 410."""
    data = await services.producer.image(job.id)
    if data is None:
        raise ProblemError("picture-gone", "Picture gone", 410, f"the picture of job {job.id} is not kept any more")
    return data


def seconds_kept(job: Job) -> int:
    """For how long the job can still be read."""
    return max(0, int((job.expires_at - datetime.now(UTC)).total_seconds()))
