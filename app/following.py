"""The route of a job's events: a browser's EventSource, and whoever else speaks it, follows a job to its end.

In: a request, perhaps of a client that was cut off before; out: server-sent events, each once, with durable ids.
"""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from app.caller import Who
from app.captions import MISSING, ExistingJob
from app.notices import LOOK_AGAIN_SECONDS, look_again
from app.resources import CAPTIONS, problems
from app.services import Shared
from jobs.job import Status

_EVENT_ID = re.compile(r"\d{1,15}-\d{1,15}")
_TERMINAL = {status.value for status in Status if status.terminal}

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
    return job.id, after


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses=MISSING | {204: {"description": "the job is over, and Last-Event-ID was its last event"}},
)
async def follow(
    services: Shared, caller: Who, to_come: Annotated[tuple[str, str], Depends(_events_to_come)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events; the stream ends with the job.

    There is one for each status that the job takes, named after it: `{"status", "attempt"}`. When words are decided
    one by one (strategies `greedy` and `sample`) there is an event `word` for each as soon as it is decided, with the
    number of the attempt, the caption and the position: another `processing` means that they come anew. What was
    answered by another job's run (`cached`) has no words of its own to tell.
    """
    job_id, after = to_come
    with services.notices.watch(job_id) as something_happened:
        # Asking for the job also lets it expire, should nobody work on it.
        while await services.producer.get(job_id, caller.owner) and not services.notices.closed:
            for event in await services.producer.events(job_id, after):
                after = event.id
                yield ServerSentEvent(event=event.name, id=event.id, raw_data=event.data)
                if event.name in _TERMINAL:
                    return
            await look_again(something_happened, LOOK_AGAIN_SECONDS)
