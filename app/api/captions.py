"""The routes of /v1/captions: submit a picture; read, list, cancel and delete jobs; queue position, stored picture."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from redis.exceptions import RedisError

from app.access.middleware import Caller, CallerDep
from app.access.tickets import ticket
from app.api.openapi import caption_body
from app.api.schemas import CAPTIONS, JobList, JobResource, QueuePosition, problems
from app.api.submission import IdempotencyKey, Prefer, submit_job, submitted_picture
from app.api.waiting import preferred_wait, wait_until
from app.problems import ProblemError
from app.services import Services, ServicesDep
from jobs.deliveries import Attempt
from jobs.job import Job
from jobs.options import CaptionOptions

JobId = Annotated[str, Path(description="`id` in the answer to POST")]

NOT_FOUND = problems(_404="there is no such job", _410="the job was deleted or has expired")
NOT_SUBMITTED = problems(
    _400="the body is malformed or incomplete",
    _408="the upload was too slow",
    _410="the job was deleted right after it was accepted",
    _413="the body is too large",
    _415="the image format is not supported",
    _422="an invalid value, an image that cannot be decoded or has too many pixels, or an Idempotency-Key of another "
    "request",
    _429="the rate limit is exceeded; see Retry-After",
    _503="the queue is full or cannot be reached; see Retry-After",
)
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    **problems(_410="the job was deleted or has expired, or its picture is no longer stored"),
}

router = APIRouter(
    prefix=CAPTIONS,
    tags=["captions"],
    responses=problems(_422="an invalid parameter", _503="the queue cannot be reached"),
)


class Jpeg(Response):
    """A JPEG response, which OpenAPI describes as such."""

    media_type = "image/jpeg"


async def find_job(services: ServicesDep, caller: CallerDep, job_id: JobId) -> Job:
    """Find the caller's job. Raises a 404 or 410."""
    job = await services.producer.get(job_id, caller.owner)
    if job is None:
        raise await not_found(services, caller, job_id, "job")
    return job


JobDep = Annotated[Job, Depends(find_job)]


@router.post(
    "",
    status_code=202,
    response_model=JobResource,
    responses={
        200: {"model": JobResource, "description": "ended within the wait, or answered from the cache"},
        202: {"description": "accepted; not ended yet"},
        **NOT_SUBMITTED,
    },
    openapi_extra={"requestBody": caption_body(CaptionOptions)},
)
async def submit(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    prefer: Prefer = [],  # noqa: B006
    idempotency_key: IdempotencyKey = "",
) -> JobResource:
    """Caption a picture.

    Send a form with the file in the field `image` and options in other fields; or the file itself as the body, with
    options in the query; or JSON with options and an `image_url`.
    """
    async with submitted_picture(request, services, caller, CaptionOptions, idempotency_key) as (submission, picture):
        job_id = await submit_job(services, submission, picture)
    return await answer_submission(response, services, caller, job_id, preferred_wait(prefer))


@router.get("", responses=problems(_422="an invalid parameter"))
async def list_jobs(
    services: ServicesDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100, description="jobs per page")] = 20,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9a-f]{36}$", description="from `next` of the previous page")
    ] = None,
) -> JobList:
    """List the caller's jobs, the newest first."""
    jobs = await services.producer.latest(caller.key_id, limit, cursor)
    next_page = f"{CAPTIONS}?limit={limit}&cursor={jobs[-1].id}" if len(jobs) == limit else None
    return JobList(jobs=jobs, next=next_page)


@router.get("/{job_id}", responses=NOT_FOUND)
async def read(
    services: ServicesDep,
    caller: CallerDep,
    job_id: JobId,
    wait: Annotated[int, Query(ge=0, description="seconds to wait for the job to end; at most 60")] = 0,
) -> JobResource:
    """Read a job, at once or when it ends."""
    job = await _wait_for(services, job_id, wait, lambda: find_job(services, caller, job_id))
    return await _resource(services, job)


@router.post("/{job_id}/cancel", responses=NOT_FOUND)
async def cancel(services: ServicesDep, caller: CallerDep, job: JobDep) -> JobResource:
    """Cancel a job. If it has ended already, nothing changes."""
    await services.producer.cancel(job.id)
    return await _resource(services, await find_job(services, caller, job.id))


@router.delete("/{job_id}", status_code=204, responses=NOT_FOUND)
async def delete(services: ServicesDep, job: JobDep) -> None:
    """Delete a job, its picture and its result. A job that has not ended is canceled."""
    await services.producer.delete(job.id)


@router.get("/{job_id}/deliveries", responses=NOT_FOUND)
async def deliveries(services: ServicesDep, job: JobDep) -> list[Attempt]:
    """List the attempts to deliver the job's webhook, the oldest first."""
    return await services.deliveries.history(job.id)


@router.get("/{job_id}/queue-position", responses=NOT_FOUND)
async def queue_position(services: ServicesDep, job: JobDep) -> QueuePosition:
    """Count the earlier jobs that have not ended, running ones included."""
    return QueuePosition(ahead=await services.producer.queue_position(job.id))


@router.get("/{job_id}/picture.jpg", response_class=Jpeg, responses={**NOT_FOUND, **_PICTURE})
async def picture(services: ServicesDep, job: JobDep) -> Response:
    """Read the stored picture: upright, and at most as large as the service keeps it."""
    data = await working_image(services, job)
    return Jpeg(data, headers=cache_headers(job))


async def working_image(services: Services, job: Job) -> bytes:
    """The job's working image, a JPEG. Raises a 410."""
    data = await services.producer.image(job.id)
    if data is None:
        raise ProblemError("picture-gone", "Picture gone", 410, f"The picture of job {job.id} is no longer stored.")
    return data


def cache_headers(job: Job) -> dict[str, str]:
    """Headers that let the caller's browser keep a response as long as the job can be read."""
    seconds = max(0, int((job.expires_at - datetime.now(UTC)).total_seconds()))
    return {"Cache-Control": f"private, max-age={seconds}"}


async def answer_submission(
    response: Response, services: Services, caller: Caller, job_id: str, wait: int | None
) -> JobResource:
    """Answer a submission with its job, when the job ends or the wait is over. Raises a 410."""
    response.headers["Location"] = f"{CAPTIONS}/{job_id}"
    if wait is not None:
        wait = min(wait, services.settings.max_wait_seconds)
        response.headers["Preference-Applied"] = f"wait={wait}"
    job: Job | None = None

    async def fetch() -> Job:
        nonlocal job
        job = await find_job(services, caller, job_id)
        return job

    try:
        await _wait_for(services, job_id, wait or 0, fetch)
    except (RedisError, ProblemError):
        # The job was accepted. Once it has been read, the answer is a success even if waiting fails.
        if job is None:
            raise
    assert job is not None
    if job.status.terminal:
        response.status_code = 200
    return await _resource(services, job)


async def not_found(services: Services, caller: Caller, name: str, kind: str) -> ProblemError:
    """Create the 404 or 410 for a missing job or batch."""
    if await services.producer.was_issued(name, caller.key_id):
        return ProblemError("gone", "Gone", 410, f"The {kind} {name} was deleted or has expired.")
    return ProblemError("not-found", "Not found", 404, f"There is no {kind} with this id.")


async def _resource(services: Services, job: Job) -> JobResource:
    # A browser's EventSource cannot send a key, so where keys are required its link has a ticket.
    events_ticket = ticket(await services.producer.secret(), job.id) if services.settings.keys_required else ""
    return JobResource.of(job, events_ticket)


async def _wait_for(services: Services, job_id: str, seconds: int, fetch: Callable[[], Awaitable[Job]]) -> Job:
    return await wait_until(services, [job_id], seconds, fetch, lambda job: job.status.terminal)
