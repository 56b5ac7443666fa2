"""The route of /v1/scores: how probable is this sentence, and where do its words look?

In: a picture and a caption; out: a job whose only caption is that one. It must not know how a caption is scored.
"""

from fastapi import APIRouter, Request, Response

from app.access.caller import Who
from app.api.captions import SUBMITTED, answer
from app.api.openapi import caption_body
from app.api.schemas import JobResource
from app.api.submission import IdempotencyKey, Prefer, one_picture, submitted
from app.api.waiting import preferred_wait
from app.services import Shared
from jobs.options import ScoreOptions

router = APIRouter(prefix="/v1/scores", tags=["scores"])


@router.post(
    "",
    response_model=JobResource,
    responses={
        200: {"description": "the score"},
        202: {"model": JobResource, "description": "taken in; not over yet: to be read under Location"},
        **SUBMITTED,
    },
    openapi_extra={"requestBody": caption_body(ScoreOptions)},
)
async def score(
    request: Request,
    response: Response,
    services: Shared,
    caller: Who,
    prefer: Prefer = [],  # noqa: B006
    idempotency_key: IdempotencyKey = "",
) -> JobResource:
    """Score a caption of your own: its log-probability, that of each of its words, and where each of them looks.

    Waits for the score unless `Prefer` says otherwise. The job is like any other, and kept as long.
    """
    async with one_picture(request, services, caller, ScoreOptions, idempotency_key) as (submission, picture):
        job_id = await submitted(services, submission, picture)
    response.status_code = 202
    wait = preferred_wait(prefer)
    if wait is None:
        wait = services.settings.max_wait_seconds
    return await answer(response, services, caller, job_id, wait)
