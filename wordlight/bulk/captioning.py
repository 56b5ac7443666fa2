"""The actor: owns a device and a captioner, and makes parts of the output out of lists of pictures.

In: orders, once; then lists of files; out: parts, written, and how many pictures failed. Pictures are decoded in
confined child processes, as the web process decodes uploads: what is no picture, or a dangerous one, fails alone, with
its reason.
"""

import asyncio
import io
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from PIL import Image

from app.images.decoder import DecoderBusy, PictureDecoder
from app.images.limits import ImageLimits
from app.images.picture import PictureRefused
from model.decoding.caption import Caption
from model.decoding.options import DecodingOptions
from model.runtime.captioner import SHIPPED
from model.runtime.device import choose_device
from model.runtime.engines.pytorch import Precision
from model.runtime.inference import EngineName, load_for_inference
from wordlight.bulk.parts import Form, Parts, Row
from wordlight.bulk.place import Found, Place

T = TypeVar("T")

_LIMITS = ImageLimits()
_DECODERS = 2


@dataclass(frozen=True, slots=True)
class Orders:
    """What every actor is told."""

    source: str
    output: str
    form: Form
    attention: Literal["none", "heatmap", "both"]
    model: Path | None
    device: str
    engine: EngineName
    precision: Precision
    decoding: DecodingOptions
    batch: int
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a list of pictures."""

    captioned: int
    failed: int


class Captioning:
    """One device at work."""

    def __init__(self, orders: Orders) -> None:
        """Load the captioner. Raises CaptionerNotLoadable, DeviceUnavailable, EngineUnavailable and NoSuchPlace."""
        if orders.threads:
            torch.set_num_threads(orders.threads)
        self._orders = orders
        self._source, self._parts = Place.at(orders.source), Parts(Place.at(orders.output), orders.form)
        device = choose_device(orders.device)
        self._captioner = load_for_inference(orders.model or SHIPPED, device, orders.engine, orders.precision)
        # The decoder lives in an event loop, and its children as long as the thread that has started them.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="decoding", daemon=True).start()
        self._decoder = self._soon(_start_decoder()).result()

    def caption(self, found: Sequence[Found]) -> Outcome:
        """Caption these, and write them as one part. Raises OSError when that cannot be written."""
        size = self._orders.batch
        batches = [found[first : first + size] for first in range(0, len(found), size)]
        rows: list[Row] = []
        prepared = self._prepare(batches[0]) if batches else None
        for number, batch in enumerate(batches):
            assert prepared is not None
            pixels = prepared.result()
            # While the device computes this batch, the next is read and decoded.
            prepared = self._prepare(batches[number + 1]) if number + 1 < len(batches) else None
            rows += self._rows(batch, pixels)
        self._parts.write(rows)
        failed = sum("error" in row for row in rows)
        return Outcome(len(rows) - failed, failed)

    def _rows(self, batch: Sequence[Found], pixels: Sequence[torch.Tensor | str]) -> list[Row]:
        """A row for each, in their order; of `pixels`, texts are errors."""
        good = [one for one in pixels if isinstance(one, torch.Tensor)]
        captions = iter(self._caption(torch.stack(good)) if good else [])
        rows: list[Row] = []
        for found, one in zip(batch, pixels, strict=True):
            if isinstance(one, str):
                rows.append({"path": found.path, "error": one})
            else:
                told = [self._told(caption) for caption in next(captions)]
                rows.append({"path": found.path, "captions": told, "model": self._captioner.version})
        return rows

    def _caption(self, pixels: torch.Tensor) -> list[list[Caption]]:
        """As the captioner does it, in halves where the device has no memory for all."""
        try:
            return self._captioner.caption_pixels(pixels, self._orders.decoding)
        except torch.OutOfMemoryError:
            if len(pixels) == 1:
                raise
        half = len(pixels) // 2
        return self._caption(pixels[:half]) + self._caption(pixels[half:])

    def _told(self, caption: Caption) -> dict[str, Any]:
        told = caption.as_dict()
        if self._orders.attention == "none":
            del told["words"]
        elif self._orders.attention == "heatmap":
            for word in told["words"]:
                del word["attention"]
        return told

    def _prepare(self, batch: Sequence[Found]) -> "Future[list[torch.Tensor | str]]":
        async def prepare() -> list[torch.Tensor | str]:
            return await asyncio.gather(*map(self._pixels, batch))

        return self._soon(prepare())

    async def _pixels(self, found: Found) -> torch.Tensor | str:
        """What the captioner takes; a text where there is no picture."""
        too_large = f"larger than {_LIMITS.max_bytes // 2**20} MiB"
        if found.size > _LIMITS.max_bytes:
            return too_large
        try:
            data = await asyncio.to_thread(self._source.read, found.path, _LIMITS.max_bytes + 1)
            if len(data) > _LIMITS.max_bytes:
                return too_large
            working = await self._decoder.prepare(io.BytesIO(data))
        except PictureRefused as refused:
            return refused.detail
        except OSError as error:
            return error.strerror or str(error).partition("\n")[0]
        # A JPEG of our own.
        return await asyncio.to_thread(lambda: self._captioner.prepare(Image.open(io.BytesIO(working.data))))

    def _soon(self, work: "Coroutine[Any, Any, T]") -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def _start_decoder() -> PictureDecoder:
    decoder = PictureDecoder(
        processes=_DECODERS,
        limits=_LIMITS,
        max_waiting=2**20,
    )
    for _ in range(3):  # a machine that has much to do starts it the next time
        try:
            await decoder.start()
            break
        except DecoderBusy:
            continue
    else:
        await decoder.start()
    return decoder
