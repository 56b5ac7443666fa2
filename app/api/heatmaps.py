"""The routes of heatmaps as PNG files: one for a word, and a contact sheet for a caption."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from app.api.captions import JobDep, cache_headers, working_image
from app.api.schemas import CAPTIONS, problems
from app.problems import ProblemError, unavailable
from app.rendering.contact_sheet import Scale, contact_sheet, highest
from app.rendering.overlay import word_overlay
from app.services import ServicesDep
from jobs.job import Caption, Job

_THREADS = 2
_MAX_WAITING = 32  # a typical sheet takes 0.1 s

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    **problems(
        _404="no such job, caption or word, or the job has no heatmaps",
        _409="the job has not ended",
        _410="the job was deleted or has expired, or its picture is no longer stored",
        _422="an invalid parameter",
        _503="too many heatmaps are being drawn, or the queue cannot be reached; see Retry-After",
    ),
}

CaptionNumber = Annotated[int, Path(ge=0, description="index of the caption, from 0")]
WordNumber = Annotated[int, Path(ge=0, description="index of the word, from 0")]
ColourScale = Annotated[
    Scale, Query(description="top of the colour scale: the strongest cell of each `word`, or of the whole `caption`")
]

router = APIRouter(prefix=CAPTIONS + "/{job_id}/captions/{n}", tags=["heatmaps"], responses=_RESPONSES)


class Png(Response):
    """A PNG response, which OpenAPI describes as such."""

    media_type = "image/png"


class RendererBusy(Exception):
    """Too many drawings are waiting."""


class Renderer:
    """Draws in a few threads, so that drawing does not block the event loop."""

    def __init__(self, threads: int, max_waiting: int) -> None:
        """Create a renderer. `max_waiting` drawings may wait while every thread is busy."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="renderer")
        self._capacity = threads + max_waiting
        self._taken = 0

    async def render(self, draw: Callable[[], bytes]) -> bytes:
        """Call `draw` when a thread is free. Raises RendererBusy and whatever `draw` raises."""
        if self._taken >= self._capacity:
            raise RendererBusy
        self._taken += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, draw)
        finally:
            self._taken -= 1


renderer = Renderer(_THREADS, _MAX_WAITING)


def _caption(job: JobDep, n: CaptionNumber) -> Caption:
    """Find a caption of the job. Raises a 409 or 404."""
    if not job.status.terminal:
        raise ProblemError("not-finished", "Not finished", 409, f"Job {job.id} is {job.status}. Wait for its end.")
    if n >= len(job.captions):
        raise _missing(f"Job {job.id} has {len(job.captions)} captions; the index {n} is too large.")
    return job.captions[n]


CaptionDep = Annotated[Caption, Depends(_caption)]


@router.get("/words/{m}.png", response_class=Png)
async def word_heatmap(
    services: ServicesDep, job: JobDep, caption: CaptionDep, m: WordNumber, scale: ColourScale = "word"
) -> Response:
    """Draw the heatmap of one word over the stored picture."""
    if m >= len(caption.words):
        raise _missing(f"The caption has {len(caption.words)} words; the index {m} is too large.")
    word = caption.words[m]
    if word.heatmap is None:
        raise _no_heatmap()
    top = None if scale == "word" else highest(caption.words)
    description = f'"{word.text}" in "{caption.text}"'
    picture = await working_image(services, job)
    return await _png(job, partial(word_overlay, picture, word.heatmap, top, description))


@router.get("/sheet.png", response_class=Png)
async def sheet(services: ServicesDep, job: JobDep, caption: CaptionDep, scale: ColourScale = "word") -> Response:
    """Draw a contact sheet: the picture, then a small heatmap for each word of a caption."""
    if not any(word.heatmap for word in caption.words):
        raise _no_heatmap()
    picture = await working_image(services, job)
    return await _png(job, partial(contact_sheet, picture, caption, scale))


async def _png(job: Job, draw: Callable[[], bytes]) -> Response:
    """Draw in the renderer. Raises a 503."""
    try:
        data = await renderer.render(draw)
    except RendererBusy:
        raise unavailable("busy", "Busy", "Too many heatmaps are being drawn. Try again soon.") from None
    return Png(data, headers=cache_headers(job))


def _missing(detail: str) -> ProblemError:
    return ProblemError("not-found", "Not found", 404, detail)


def _no_heatmap() -> ProblemError:
    return ProblemError(
        "no-heatmap", "No heatmap", 404, "The job has no heatmaps because it was submitted with attention=none."
    )
