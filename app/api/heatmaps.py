"""The routes of heatmaps as files, for clients that cannot draw: one word's, and a contact sheet of a caption.

In: requests; out: PNGs. It must not know how they are drawn, nor how pictures are kept.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from app.api.captions import ExistingJob
from app.api.schemas import CAPTIONS, problems
from app.api.working_image import seconds_kept, working_image
from app.problems import ProblemError, unavailable
from app.rendering.contact_sheet import Scale, contact_sheet, highest
from app.rendering.overlay import word_overlay
from app.rendering.renderer import Renderer, RendererBusy
from app.services import Shared
from jobs.job import Caption, Job

_THREADS = 2
_MAX_WAITING = 32  # a common sheet takes a tenth of a second

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    **problems(
        _404="no such job, caption or word, or heatmaps were not asked for",
        _409="the job is not finished yet",
        _410="the job was deleted or its time is over, or its picture is gone",
        _422="a parameter that cannot be",
        _503="too many heatmaps are being drawn, or the queue cannot be reached; see Retry-After",
    ),
}

CaptionNumber = Annotated[int, Path(ge=0, description="which caption of the job; 0 is the first")]
WordNumber = Annotated[int, Path(ge=0, description="which word of the caption; 0 is the first")]
ColourScale = Annotated[
    Scale, Query(description="what is brightest: the strongest cell of each `word`, or that of the whole `caption`")
]

router = APIRouter(prefix=CAPTIONS + "/{job_id}/captions/{n}", tags=["heatmaps"], responses=_RESPONSES)
renderer = Renderer(_THREADS, _MAX_WAITING)


class Png(Response):
    """A response that is a PNG, in the documentation of the API too."""

    media_type = "image/png"


def _caption(job: ExistingJob, n: CaptionNumber) -> Caption:
    """The caption of that number. Raises the 409 and the 404."""
    if not job.status.terminal:
        raise ProblemError("not-finished", "Not finished", 409, f"job {job.id} is {job.status}: wait for its end")
    if n >= len(job.captions):
        raise _missing(f"job {job.id} has {len(job.captions)} captions; there is no number {n}, counted from 0")
    return job.captions[n]


ExistingCaption = Annotated[Caption, Depends(_caption)]


@router.get("/words/{m}.png", response_class=Png)
async def word_heatmap(
    services: Shared, job: ExistingJob, caption: ExistingCaption, m: WordNumber, scale: ColourScale = "word"
) -> Response:
    """The upright picture, as small as it is kept, with the heatmap of one word over it."""
    if m >= len(caption.words):
        raise _missing(f"the caption has {len(caption.words)} words; there is no number {m}, counted from 0")
    word = caption.words[m]
    if word.heatmap is None:
        raise _no_heatmap()
    top = None if scale == "word" else highest(caption.words)
    description = f'"{word.text}" in "{caption.text}"'
    picture = await working_image(services, job)
    return await _png(job, partial(word_overlay, picture, word.heatmap, top, description))


@router.get("/sheet.png", response_class=Png)
async def sheet(services: Shared, job: ExistingJob, caption: ExistingCaption, scale: ColourScale = "word") -> Response:
    """All words of a caption on one sheet: the picture, then one small heatmap for each word."""
    if not any(word.heatmap for word in caption.words):
        raise _no_heatmap()
    picture = await working_image(services, job)
    return await _png(job, partial(contact_sheet, picture, caption, scale))


async def _png(job: Job, draw: Callable[[], bytes]) -> Response:
    """What `draw` draws, to be kept as long as the job is. Raises the 503."""
    try:
        data = await renderer.render(draw)
    except RendererBusy:
        raise unavailable("busy", "Busy", "too many heatmaps are being drawn: try again soon") from None
    return Png(data, headers={"Cache-Control": f"private, max-age={seconds_kept(job)}"})


def _missing(detail: str) -> ProblemError:
    return ProblemError("not-found", "Not found", 404, detail)


def _no_heatmap() -> ProblemError:
    return ProblemError("no-heatmap", "No heatmap", 404, "the job was asked for with attention=none")
