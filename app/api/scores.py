"""The route of /v1/scores: the probability of a given caption, and the heatmaps of its words."""

from fastapi import APIRouter, Request, Response

from app.access.middleware import CallerDep
from app.api.captions import NOT_SUBMITTED, answer_submission
from app.api.openapi import caption_body
from app.api.schemas import JobResource
from app.api.submission import IdempotencyKey, Prefer, submit_job, submitted_picture
from app.api.waiting import preferred_wait
from app.services import ServicesDep
from jobs.options import ScoreOptions

router = APIRouter(prefix="/v1/scores", tags=["scores"])


@router.post(
    "",
    response_model=JobResource,
    responses={
        200: {"description": "the score"},
        202: {"model": JobResource, "description": "accepted; not ended yet: read it at Location"},
        **NOT_SUBMITTED,
    },
    openapi_extra={"requestBody": caption_body(ScoreOptions)},
)
async def score(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    prefer: Prefer = [],  # noqa: B006
    idempotency_key: IdempotencyKey = "",
) -> JobResource:
    """Score a given caption: its log-probability, that of each word, and the attention of each word.

    Waits for the score unless `Prefer` says otherwise. The result is a job like any other.
    """
    async with submitted_picture(request, services, caller, ScoreOptions, idempotency_key) as (submission, picture):
        job_id = await submit_job(services, submission, picture)
    response.status_code = 202
    wait = preferred_wait(prefer)
    if wait is None:
        wait = services.settings.max_wait_seconds
    return await answer_submission(response, services, caller, job_id, wait)
