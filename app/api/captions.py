"""The routes of /v1/captions: put a picture in, read the job, list, cancel and remove jobs.

In: requests; out: jobs, as app/api/schemas.py shows them. It must not know how pictures are decoded or queued.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from redis.exceptions import RedisError

from app.access.caller import Caller, Who
from app.access.tickets import ticket
from app.api.openapi import caption_body
from app.api.schemas import CAPTIONS, JobList, JobResource, problems
from app.api.submission import IdempotencyKey, Prefer, one_picture, submitted
from app.api.waiting import preferred_wait, wait_until
from app.problems import ProblemError
from app.services import Services, Shared
from jobs.deliveries import Attempt
from jobs.job import Job
from jobs.options import CaptionOptions

JobId = Annotated[str, Path(description="as in the answer to POST")]

MISSING = problems(_404="there is no such job", _410="the job was deleted, or its time is over")
SUBMITTED = problems(
    _400="the body is malformed or was cut off",
    _408="the upload was too slow",
    _410="the job was deleted as soon as it was taken in",
    _413="too many bytes",
    _415="no image of an accepted format",
    _422="a value that cannot be, an image that cannot be decoded or has too many pixels, or an Idempotency-Key that "
    "came with another request",
    _429="your limit is reached; see Retry-After",
    _503="the queue is full or cannot be reached; see Retry-After",
)

router = APIRouter(
    prefix=CAPTIONS,
    tags=["captions"],
    responses=problems(_422="a parameter that cannot be", _503="the queue cannot be reached"),
)


async def existing(services: Shared, caller: Who, job_id: JobId) -> Job:
    """The caller's job of that id. Raises the 404 and the 410."""
    job = await services.producer.get(job_id, caller.owner)
    if job is None:
        raise await missing(services, caller, job_id, "job")
    return job


ExistingJob = Annotated[Job, Depends(existing)]


@router.post(
    "",
    status_code=202,
    response_model=JobResource,
    responses={
        200: {"model": JobResource, "description": "over within the wait, or answered by what is known already"},
        202: {"description": "taken in; not over yet"},
        **SUBMITTED,
    },
    openapi_extra={"requestBody": caption_body(CaptionOptions)},
)
async def submit(
    request: Request,
    response: Response,
    services: Shared,
    caller: Who,
    prefer: Prefer = [],  # noqa: B006
    idempotency_key: IdempotencyKey = "",
) -> JobResource:
    """Caption a picture.

    Send a form with the file in the field `image` and options in others; or the file itself as the body, with options
    in the query; or JSON with options and an `image_url`.
    """
    async with one_picture(request, services, caller, CaptionOptions, idempotency_key) as (submission, picture):
        job_id = await submitted(services, submission, picture)
    return await answer(response, services, caller, job_id, preferred_wait(prefer))


@router.get("", responses=problems(_422="a parameter that cannot be"))
async def list_jobs(
    services: Shared,
    caller: Who,
    limit: Annotated[int, Query(ge=1, le=100, description="jobs a page")] = 20,
    cursor: Annotated[str | None, Query(pattern="^[0-9a-f]{36}$", description="as in `next` of the last page")] = None,
) -> JobList:
    """The caller's jobs, the newest first, as long as they are kept."""
    jobs = await services.producer.latest(caller.key_id, limit, cursor)
    following = f"{CAPTIONS}?limit={limit}&cursor={jobs[-1].id}" if len(jobs) == limit else None
    return JobList(jobs=jobs, next=following)


@router.get("/{job_id}", responses=MISSING)
async def read(
    services: Shared,
    caller: Who,
    job_id: JobId,
    wait: Annotated[int, Query(ge=0, description="seconds to wait for the job to end; capped at 60")] = 0,
) -> JobResource:
    """The job as it is, or as it is when it ends or the wait does."""
    return await resource(
        services, await _waited_for(services, job_id, wait, lambda: existing(services, caller, job_id))
    )


@router.post("/{job_id}/cancel", responses=MISSING)
async def cancel(services: Shared, caller: Who, job: ExistingJob) -> JobResource:
    """End the job, if it is not over. Asked again, or too late, this changes nothing and shows the job as it is."""
    await services.producer.cancel(job.id)
    return await resource(services, await existing(services, caller, job.id))


@router.delete("/{job_id}", status_code=204, responses=MISSING)
async def delete(services: Shared, job: ExistingJob) -> None:
    """Remove the job, its picture and its result. One that is not over is canceled."""
    await services.producer.delete(job.id)


@router.get("/{job_id}/deliveries", responses=MISSING)
async def deliveries(services: Shared, job: ExistingJob) -> list[Attempt]:
    """The tries so far to tell the job's webhook of its end, the first one first."""
    return await services.deliveries.history(job.id)


async def answer(response: Response, services: Services, caller: Caller, job_id: str, wait: int | None) -> JobResource:
    """The answer to a submission: the job when it ends, or as it is when the wait does. Raises the 410."""
    response.headers["Location"] = f"{CAPTIONS}/{job_id}"
    if wait is not None:
        wait = min(wait, services.settings.max_wait_seconds)
        response.headers["Preference-Applied"] = f"wait={wait}"
    job: Job | None = None

    async def look() -> Job:
        nonlocal job
        job = await existing(services, caller, job_id)
        return job

    try:
        await _waited_for(services, job_id, wait or 0, look)
    except (RedisError, ProblemError):
        # The job is taken in: once it was seen, the answer is a success, whatever becomes of the waiting.
        if job is None:
            raise
    assert job is not None
    if job.status.terminal:
        response.status_code = 200
    return await resource(services, job)


async def missing(services: Services, caller: Caller, name: str, kind: str) -> ProblemError:
    """Why there is no such job or batch."""
    if await services.producer.was_issued(name, caller.key_id):
        return ProblemError("gone", "Gone", 410, f"the {kind} {name} was deleted, or its time is over")
    return ProblemError("not-found", "Not found", 404, f"there is no {kind} of that id")


async def resource(services: Services, job: Job) -> JobResource:
    """The job as clients see it."""
    # Where keys are needed, a browser's EventSource, which cannot send one, needs a way in.
    sealed = ticket(await services.producer.secret(), job.id) if services.settings.keys_required else ""
    return JobResource.of(job, sealed)


async def _waited_for(services: Services, job_id: str, seconds: int, look: Callable[[], Awaitable[Job]]) -> Job:
    return await wait_until(services, [job_id], seconds, look, lambda job: job.status.terminal)
