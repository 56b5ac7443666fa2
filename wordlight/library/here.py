"""Captions by a captioner in this process. In: files; out, in their order: the captions of each, or why it has none.

Pictures are decoded as the service does it, in confined processes of their own (app/images): so the captions are
those of the service, a file that crashes its decoder harms no other, and the model computes meanwhile.
"""

import asyncio
import io
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from app.images.decoder import PictureDecoder
from app.images.limits import ImageLimits
from app.images.picture import PictureRefused, WorkingImage
from jobs.job import ImageSize, ModelInfo
from jobs.options import CaptionOptions
from wordlight.library.photographs import unfit
from wordlight.library.record import Captioned, Failed, Outcome

if TYPE_CHECKING:
    import torch

    from model.decoding.options import DecodingOptions
    from model.runtime.captioner import Captioner

_DECODERS = 2
# One's own files may be larger than what strangers upload.
_LIMITS = ImageLimits(decode_seconds=60.0)
_BATCH = 16
# Decoded while a batch is captioned: the next one, and some of the one behind it.
_AHEAD = 2 * _BATCH


@dataclass(frozen=True, slots=True)
class _Ready:
    """A photograph as the captioner takes it."""

    path: Path
    pixels: "torch.Tensor"  # (3, S, S) uint8
    image: ImageSize


async def captions_here(
    paths: Iterable[Path], load: "Callable[[], Captioner]", decoding: "DecodingOptions", options: CaptionOptions
) -> AsyncGenerator[Outcome]:
    """Caption all files; `options` say whether attention is wanted. The next ones are decoded meanwhile."""
    async with decoder() as decoding_processes:
        captioner = load()
        left = iter(paths)
        waiting: deque[asyncio.Task[_Ready | Failed]] = deque()
        try:
            while True:
                for path in islice(left, _AHEAD - len(waiting)):
                    waiting.append(asyncio.create_task(_ready(path, decoding_processes, captioner)))
                if not waiting:
                    return
                # What is there goes, as in the worker: no batch waits to be full.
                batch = [await waiting.popleft()]
                while waiting and waiting[0].done() and len(batch) < _BATCH:
                    batch.append(waiting.popleft().result())
                for outcome in await asyncio.to_thread(_captioned, batch, captioner, decoding, options):
                    yield outcome
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


def decoder() -> PictureDecoder:
    """A decoder for files of one's own, which may be larger than what strangers send."""
    return PictureDecoder(_DECODERS, _LIMITS, max_waiting=_AHEAD)


async def decoded(path: Path, decoding_processes: PictureDecoder) -> WorkingImage | Failed:
    """The working image of a file, or why there is none."""
    try:
        if why := unfit(path):
            return Failed(path, why)
        with path.open("rb") as file:
            return await decoding_processes.prepare(file)
    except OSError as error:
        return Failed(path, error.strerror or str(error))
    except PictureRefused as refused:
        return Failed(path, refused.detail)
    except ValueError as error:
        return Failed(path, str(error))


async def _ready(path: Path, decoding_processes: PictureDecoder, captioner: "Captioner") -> _Ready | Failed:
    working = await decoded(path, decoding_processes)
    if isinstance(working, Failed):
        return working
    pixels = await asyncio.to_thread(_pixels, working, captioner)
    return _Ready(path, pixels, ImageSize(width=working.width, height=working.height))


def _pixels(working: WorkingImage, captioner: "Captioner") -> "torch.Tensor":
    from PIL import Image

    return captioner.prepare(Image.open(io.BytesIO(working.data)))


def _captioned(
    batch: list[_Ready | Failed], captioner: "Captioner", decoding: "DecodingOptions", options: CaptionOptions
) -> list[Outcome]:
    import torch

    from worker.convert import caption_for

    pixels = [ready.pixels for ready in batch if isinstance(ready, _Ready)]
    written = iter(captioner.caption_pixels(torch.stack(pixels), decoding) if pixels else [])
    model = ModelInfo(name=captioner.config.name, version=captioner.version)
    return [
        ready
        if isinstance(ready, Failed)
        else Captioned(ready.path, [caption_for(options, said) for said in next(written)], model, ready.image)
        for ready in batch
    ]
