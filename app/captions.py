"""The routes of /v1/captions: put a picture in, read the job, follow it.

In: requests; out: jobs, as jobs/job.py describes them. It must not know how pictures are decoded or queued.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from app.decoder import DecoderBusy
from app.notices import LOOK_AGAIN_SECONDS, look_again
from app.picture import PictureRefused
from app.problems import ProblemError, unavailable
from app.services import Services, Shared
from jobs.job import Job
from jobs.problem import Problem
from jobs.producer import QueueFull

_REFUSED_STATUS = {"unsupported-format": 415, "undecodable-image": 422, "too-many-pixels": 422}
_WAIT = re.compile(r"wait *= *\"?(\d{1,9})\"?", re.IGNORECASE)
_EVENT_ID = re.compile(r"\d{1,15}-\d{1,15}")

JobId = Annotated[str, Path(description="as in the answer to POST")]
_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}
_UNREACHABLE: dict[int | str, dict[str, Any]] = {503: {"description": "the queue cannot be reached", **_PROBLEM}}
_INVALID: dict[int | str, dict[str, Any]] = {422: {"description": "a parameter that cannot be", **_PROBLEM}}
_MISSING: dict[int | str, dict[str, Any]] = {404: {"description": "no such job (any more)", **_PROBLEM}}
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

router = APIRouter(prefix="/v1/captions", tags=["captions"], responses=_UNREACHABLE | _INVALID)


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
    prefer: Annotated[list[str], Header(description="`wait=N` waits up to N seconds for the captions")] = [],  # noqa: B006
) -> Job:
    """Caption a picture: multipart/form-data with the file in the field `image`, or the file as the body."""
    wait = _preferred_wait(prefer)
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
        job = await services.producer.submit(picture.data, picture.width, picture.height)
    except QueueFull:
        raise unavailable("queue-full", "Queue full", "as many jobs as may are waiting: try again soon") from None
    response.headers["Location"] = f"{router.prefix}/{job.id}"
    if wait is None:
        return job
    seconds = min(wait, services.settings.max_wait_seconds)
    response.headers["Preference-Applied"] = f"wait={seconds}"
    # The job is taken in: from here on the answer is a success, whatever becomes of the waiting.
    with suppress(RedisError, ProblemError):
        job = await _wait_for(services, job.id, seconds)
    if job.status.terminal:
        response.status_code = 200
    return job


def _preferred_wait(prefer: list[str]) -> int | None:
    """The seconds of `wait` in the values of Prefer (RFC 7240), if it is there."""
    for preference in ",".join(prefer).split(","):
        if wait := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return int(wait[1])
    return None


@router.get("/{job_id}", responses=_MISSING)
async def read(
    services: Shared,
    job_id: JobId,
    wait: Annotated[int, Query(ge=0, description="seconds to wait for the job to end; capped at 60")] = 0,
) -> Job:
    """The job as it is, or as it is when it ends or the wait does."""
    return await _wait_for(services, job_id, wait)


async def _events_to_come(
    services: Shared,
    job: Annotated[Job, Depends(_existing)],
    last_event_id: Annotated[str, Header(description="set by browsers that reconnect")] = "",
) -> tuple[str, str]:
    """The job's id, and the event after which to go on. Answers 204 where none will come: so EventSource stops."""
    after = last_event_id if _EVENT_ID.fullmatch(last_event_id) else "0"
    if job.status.terminal and not await services.producer.events(job.id, after):
        raise HTTPException(204)
    return job.id, after


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses=_MISSING | {204: {"description": "the job is over, and Last-Event-ID was its last event"}},
)
async def follow(
    services: Shared, to_come: Annotated[tuple[str, str], Depends(_events_to_come)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events, one for each status that the job takes; the stream ends with the job."""
    job_id, after = to_come
    with services.notices.watch(job_id) as something_happened:
        # Asking for the job also lets it expire, should nobody work on it.
        while await services.producer.get(job_id) and not services.notices.closed:
            for event in await services.producer.events(job_id, after):
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
            if job.status.terminal or remaining <= 0 or services.notices.closed:
                return job
            await look_again(something_happened, remaining)
