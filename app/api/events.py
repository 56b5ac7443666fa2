"""The route of a job's server-sent events. Their ids are stored, so a client can resume after a disconnect."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from app.access.middleware import CallerDep
from app.api.captions import NOT_FOUND, JobDep
from app.api.schemas import CAPTIONS, problems
from app.notifications import POLL_SECONDS, wait_for_change
from app.services import Services, ServicesDep
from jobs.job import Status

_EVENT_ID = re.compile(r"\d{1,15}-\d{1,15}")
_TERMINAL = {status.value for status in Status if status.terminal}
_EVENT_STREAM = "text/event-stream"
# OpenAPI 3.2 describes server-sent events like this.
_EVENT = {"type": "object", "properties": {name: {"type": "string"} for name in ("event", "id", "data")}}
_DESCRIPTION = {200: {"description": "the events, as they happen", "content": {_EVENT_STREAM: {"itemSchema": _EVENT}}}}

router = APIRouter(prefix=CAPTIONS, tags=["captions"], responses=problems(_503="the queue cannot be reached"))


async def _resume_point(
    services: ServicesDep,
    job: JobDep,
    last_event_id: Annotated[str, Header(description="sent by browsers that reconnect")] = "",
) -> tuple[str, str]:
    """The job's id and the event after which to resume. Answers 204, which stops EventSource, if none will follow."""
    after = last_event_id if _EVENT_ID.fullmatch(last_event_id) else "0"
    if job.status.terminal and not await services.producer.events(job.id, after):
        raise HTTPException(204)
    if not job.status.terminal:
        await services.producer.follow(job.id)
    return job.id, after


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses=NOT_FOUND
    | _DESCRIPTION
    | {204: {"description": "the job has ended and Last-Event-ID was its last event"}},
)
async def follow(
    services: ServicesDep, caller: CallerDep, resume_point: Annotated[tuple[str, str], Depends(_resume_point)]
) -> StreamingResponse:
    """Follow a job with server-sent events. The stream ends with the job.

    Each status of the job is an event with that name: `{"status", "attempt"}`. With the strategies `greedy` and
    `sample`, each word is an event `word` as soon as it is decided, with the attempt, the caption and the position.
    After another `processing`, the words are sent again. With `beam` and `consensus`, the words of the first caption
    that are certain before the search ends are events. The others, and all words of `diverse`, come with the result.
    A `cached` job has no word events.
    """
    # No cache or proxy may buffer events (nginx reads X-Accel-Buffering). FastAPI's own response for events fails if a
    # client disconnects during an event (as of 0.165).
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(services, caller.owner, *resume_point), headers=headers, media_type=_EVENT_STREAM)


async def _stream(services: Services, owner: str | None, job_id: str, after: str) -> AsyncIterator[bytes]:
    """Yield the events after `after` as they happen, and a comment every few seconds without an event."""
    with services.notifications.watch(job_id) as job_changed:
        # Reading the job also expires it if no worker takes it.
        while await services.producer.get(job_id, owner) and not services.notifications.closed:
            events = await services.producer.events(job_id, after)
            for event in events:
                after = event.id
                yield format_sse_event(event=event.name, id=event.id, data_str=event.data)
                if event.name in _TERMINAL:
                    return
            if not events:
                yield KEEPALIVE_COMMENT
            await wait_for_change(job_changed, POLL_SECONDS)
