"""The route of a job's events: a browser's EventSource, and whoever else speaks it, follows a job to its end.

In: a request, perhaps of a client that was cut off before; out: server-sent events, each once, with durable ids.
"""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from app.access.caller import Who
from app.api.captions import MISSING, ExistingJob
from app.api.schemas import CAPTIONS, problems
from app.notifications import LOOK_AGAIN_SECONDS, look_again
from app.services import Services, Shared
from jobs.job import Status

_EVENT_ID = re.compile(r"\d{1,15}-\d{1,15}")
_TERMINAL = {status.value for status in Status if status.terminal}
_EVENT_STREAM = "text/event-stream"
# As OpenAPI 3.2 describes server-sent events.
_EVENT = {"type": "object", "properties": {name: {"type": "string"} for name in ("event", "id", "data")}}
_DESCRIPTION = {
    200: {"description": "the events, as they come to pass", "content": {_EVENT_STREAM: {"itemSchema": _EVENT}}}
}

router = APIRouter(prefix=CAPTIONS, tags=["captions"], responses=problems(_503="the queue cannot be reached"))


async def _events_to_come(
    services: Shared,
    job: ExistingJob,
    last_event_id: Annotated[str, Header(description="set by browsers that reconnect")] = "",
) -> tuple[str, str]:
    """The job's id, and the event after which to go on. Answers 204 where none will come: so EventSource stops."""
    after = last_event_id if _EVENT_ID.fullmatch(last_event_id) else "0"
    if job.status.terminal and not await services.producer.events(job.id, after):
        raise HTTPException(204)
    if not job.status.terminal:
        await services.producer.follow(job.id)
    return job.id, after


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses=MISSING | _DESCRIPTION | {204: {"description": "the job is over, and Last-Event-ID was its last event"}},
)
async def follow(
    services: Shared, caller: Who, to_come: Annotated[tuple[str, str], Depends(_events_to_come)]
) -> StreamingResponse:
    """Server-sent events; the stream ends with the job.

    There is one for each status that the job takes, named after it: `{"status", "attempt"}`. When words are decided
    one by one (strategies `greedy` and `sample`) there is an event `word` for each as soon as it is decided, with the
    number of the attempt, the caption and the position: another `processing` means that they come anew. With `beam`
    and `consensus` there is one for each word of the first caption that is certain before the search ends, if any is;
    the others come with the result, as all do with `diverse`. What was answered by another job's run (`cached`) has no
    words of its own to tell.
    """
    # Neither a cache nor a proxy may keep events back (nginx reads the second). FastAPI's own response for events fails
    # when a client leaves while one is sent (as of 0.165).
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_told(services, caller.owner, *to_come), headers=headers, media_type=_EVENT_STREAM)


async def _told(services: Services, owner: str | None, job_id: str, after: str) -> AsyncIterator[bytes]:
    """The events after `after`, as they come to pass, and a comment every few seconds in which there are none."""
    with services.notices.watch(job_id) as something_happened:
        # Asking for the job also lets it expire, should nobody work on it.
        while await services.producer.get(job_id, owner) and not services.notices.closed:
            events = await services.producer.events(job_id, after)
            for event in events:
                after = event.id
                yield format_sse_event(event=event.name, id=event.id, data_str=event.data)
                if event.name in _TERMINAL:
                    return
            if not events:
                yield KEEPALIVE_COMMENT
            await look_again(something_happened, LOOK_AGAIN_SECONDS)
