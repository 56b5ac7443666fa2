"""The routes of /v1/captions: put a picture in, read the job, follow it.

In: requests; out: jobs, as jobs/job.py describes them. It must not know how pictures are decoded or queued.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.decoder import DecoderBusy
from app.notices import LOOK_AGAIN_SECONDS, look_again
from app.picture import PictureRefused
from app.problems import ProblemError, unavailable
from app.services import Services, Shared
from jobs.job import Job
from jobs.problem import Problem
from jobs.producer import QueueFull

_REFUSED_STATUS = {"unsupported-format": 415, "undecodable-image": 422, "too-many-pixels": 422}
_WAIT = re.compile(r"\bwait\s*=\s*\"?(\d+)")
_EVENT_ID = re.compile(r"\d{1,20}-\d{1,20}")

JobId = Annotated[str, Path(description="as in the answer to POST")]
_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}
_UNREACHABLE: dict[int | str, dict[str, Any]] = {503: {"description": "the queue cannot be reached", **_PROBLEM}}
_INVALID: dict[int | str, dict[str, Any]] = {422: {"description": "a parameter that cannot be", **_PROBLEM}}
_MISSING: dict[int | str, dict[str, Any]] = {404: {"description": "no such job (any more)", **_PROBLEM}}

router = APIRouter(prefix="/v1/captions", tags=["captions"], responses=_UNREACHABLE | _INVALID)
_PICTURE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "string", "format": "binary"}},
            }
        },
        "image/*": _PICTURE,
    },
}


async def _existing(services: Shared, job_id: JobId) -> Job:
    """The job of that id. Raises the 404."""
    job = await services.producer.get(job_id)
    if job is None:
        raise ProblemError("not-found", "Not found", 404, f"there is no job {job_id} (any more)")
    return job


@router.post(
    "",
    status_code=202,
    response_model=Job,
    responses={
        200: {"model": Job, "description": "finished within the wait that `Prefer: wait=N` asked for"},
        202: {"description": "taken in; not finished yet"},
        **{
            status: {"description": description, **_PROBLEM}
            for status, description in {
                400: "the body is malformed or was cut off",
                408: "the upload was too slow",
                413: "too many bytes",
                415: "no image of an accepted format",
                422: "an image that cannot be decoded, or has too many pixels",
                503: "the queue is full or cannot be reached; see Retry-After",
            }.items()
        },
    },
    openapi_extra={"requestBody": _BODY},
)
async def submit(
    request: Request,
    response: Response,
    services: Shared,
    prefer: Annotated[str, Header(description="`wait=N` waits up to N seconds for the captions")] = "",
) -> Job:
    """Caption a picture: multipart/form-data with the file in the field `image`, or the file as the body."""
    async with services.uploads.receive(request) as upload:
        try:
            picture = await services.decoder.prepare(upload)
        except PictureRefused as refused:
            status = _REFUSED_STATUS[refused.reason]
            title = refused.reason.replace("-", " ").capitalize()
            raise ProblemError(refused.reason, title, status, refused.detail) from None
        except DecoderBusy:
            raise unavailable("busy", "Busy", "too many pictures are being decoded: try again soon") from None
    try:
        job_id = await services.producer.submit(picture.data, picture.width, picture.height)
    except QueueFull:
        raise unavailable("queue-full", "Queue full", "as many jobs as may are waiting: try again soon") from None
    wait = _WAIT.search(prefer)
    if wait:
        response.headers["Preference-Applied"] = f"wait={min(int(wait[1]), services.settings.max_wait_seconds)}"
    job = await _wait_for(services, job_id, int(wait[1]) if wait else 0)
    response.headers["Location"] = f"{router.prefix}/{job_id}"
    if wait and job.status.terminal:
        response.status_code = 200
    return job


@router.get("/{job_id}", responses=_MISSING)
async def read(
    services: Shared,
    job_id: JobId,
    wait: Annotated[int, Query(ge=0, description="seconds to wait for the job to end; capped at 60")] = 0,
) -> Job:
    """The job as it is, or as it is when it ends or the wait does."""
    return await _wait_for(services, job_id, wait)


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses=_MISSING,
)
async def follow(
    services: Shared,
    job: Annotated[Job, Depends(_existing)],
    last_event_id: Annotated[str, Header(description="set by browsers that reconnect")] = "",
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events, one for each status that the job takes; the stream ends with the job."""
    after = last_event_id if _EVENT_ID.fullmatch(last_event_id) else "0"
    with services.notices.watch(job.id) as something_happened:
        while await services.producer.get(job.id):  # which also lets a job expire that nobody works on
            for event in await services.producer.events(job.id, after):
                after = event.id
                yield ServerSentEvent(event=event.status.value, id=event.id, data={"status": event.status.value})
                if event.status.terminal:
                    return
            await look_again(something_happened, LOOK_AGAIN_SECONDS)


async def _wait_for(services: Services, job_id: str, seconds: int) -> Job:
    """The job when it ends, or as it is after `seconds`, whichever is first. Raises the 404."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(seconds, services.settings.max_wait_seconds)
    with services.notices.watch(job_id) as something_happened:
        while True:
            job = await _existing(services, job_id)
            remaining = deadline - loop.time()
            if job.status.terminal or remaining <= 0:
                return job
            await look_again(something_happened, remaining)
