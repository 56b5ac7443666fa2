"""Caption photographs with a captioner in this process.

Confined child processes decode the pictures, as in the service (app/images). So the captions equal the service's, a
file that crashes its decoder fails alone, and decoding overlaps with the model's work.
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
from wordlight.library.outcome import Captioned, Failed, Outcome
from wordlight.library.photographs import unfit

if TYPE_CHECKING:
    import torch

    from model.decoding.options import DecodingOptions
    from model.runtime.captioner import Captioner

_DECODERS = 2
# The user's own files may take longer than uploads.
_LIMITS = ImageLimits(decode_seconds=60.0)
_BATCH = 16
# How many pictures are decoded ahead.
_AHEAD = 2 * _BATCH


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A decoded photograph."""

    path: Path
    pixels: "torch.Tensor"  # (3, S, S) uint8
    image: ImageSize


async def local_captions(
    paths: Iterable[Path], load: "Callable[[], Captioner]", decoding: "DecodingOptions", options: CaptionOptions
) -> AsyncGenerator[Outcome]:
    """Caption all files and yield their outcomes in order. `options` selects the maps of the words."""
    async with decoder() as decoding_processes:
        captioner = load()
        left = iter(paths)
        waiting: deque[asyncio.Task[_Decoded | Failed]] = deque()
        try:
            while True:
                for path in islice(left, _AHEAD - len(waiting)):
                    waiting.append(asyncio.create_task(_decode(path, decoding_processes, captioner)))
                if not waiting:
                    return
                # As in the worker, a batch takes what is decoded and does not wait to be full.
                batch = [await waiting.popleft()]
                while waiting and waiting[0].done() and len(batch) < _BATCH:
                    batch.append(waiting.popleft().result())
                for outcome in await asyncio.to_thread(_caption, batch, captioner, decoding, options):
                    yield outcome
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


def decoder() -> PictureDecoder:
    """Return a decoder that takes more time than the service's, for the user's own files."""
    return PictureDecoder(_DECODERS, _LIMITS, max_waiting=_AHEAD)


async def decoded(path: Path, decoding_processes: PictureDecoder) -> WorkingImage | Failed:
    """Decode a file to a working image."""
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


async def _decode(path: Path, decoding_processes: PictureDecoder, captioner: "Captioner") -> _Decoded | Failed:
    working = await decoded(path, decoding_processes)
    if isinstance(working, Failed):
        return working
    pixels = await asyncio.to_thread(_pixels, working, captioner)
    return _Decoded(path, pixels, ImageSize(width=working.width, height=working.height))


def _pixels(working: WorkingImage, captioner: "Captioner") -> "torch.Tensor":
    from PIL import Image

    return captioner.prepare(Image.open(io.BytesIO(working.data)))


def _caption(
    batch: list[_Decoded | Failed], captioner: "Captioner", decoding: "DecodingOptions", options: CaptionOptions
) -> list[Outcome]:
    import torch

    from worker.convert import caption_for

    pixels = [picture.pixels for picture in batch if isinstance(picture, _Decoded)]
    written = iter(captioner.caption_pixels(torch.stack(pixels), decoding) if pixels else [])
    model = ModelInfo(name=captioner.config.name, version=captioner.version)
    return [
        picture
        if isinstance(picture, Failed)
        else Captioned(picture.path, [caption_for(options, caption) for caption in next(written)], model, picture.image)
        for picture in batch
    ]
