"""The actor: owns a device and a captioner, and turns lists of pictures into parts of the output.

Confined child processes decode the pictures, as in the web process. A file that is not a picture, or is a dangerous
one, fails alone.
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
from wordlight.bulk.parts import Format, Parts, Row
from wordlight.bulk.storage import Storage, StoredFile

T = TypeVar("T")

_LIMITS = ImageLimits()
_DECODERS = 2


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """The options of a run, which all actors share."""

    source: str
    output: str
    format: Format
    attention: Literal["none", "heatmap", "both"]
    model: Path | None
    device: str
    engine: EngineName
    precision: Precision
    decoding: DecodingOptions
    batch: int
    threads: int = 0


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """The numbers of captioned and failed pictures in a list."""

    captioned: int
    failed: int


class BulkCaptioner:
    """A captioner on one device."""

    def __init__(self, options: BulkOptions) -> None:
        """Load the captioner.

        Raises CaptionerNotLoadable, DeviceUnavailable, EngineUnavailable and StorageUnusable.
        """
        if options.threads:
            torch.set_num_threads(options.threads)
        self._options = options
        self._source, self._parts = Storage.at(options.source), Parts(Storage.at(options.output), options.format)
        device = choose_device(options.device)
        self._captioner = load_for_inference(options.model or SHIPPED, device, options.engine, options.precision)
        # The decoder needs an event loop. Its child processes live as long as the thread that starts them.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="decoding", daemon=True).start()
        self._decoder = self._start(_start_decoder()).result()

    def caption(self, pictures: Sequence[StoredFile]) -> PartOutcome:
        """Caption the pictures and write them as one part. Raises OSError if the part cannot be written."""
        size = self._options.batch
        batches = [pictures[first : first + size] for first in range(0, len(pictures), size)]
        rows: list[Row] = []
        prepared = self._prepare(batches[0]) if batches else None
        for number, batch in enumerate(batches):
            assert prepared is not None
            pixels = prepared.result()
            # Read and decode the next batch while the device computes this one.
            prepared = self._prepare(batches[number + 1]) if number + 1 < len(batches) else None
            rows += self._rows(batch, pixels)
        self._parts.write(rows)
        failed = sum("error" in row for row in rows)
        return PartOutcome(len(rows) - failed, failed)

    def _rows(self, batch: Sequence[StoredFile], pixels: Sequence[torch.Tensor | str]) -> list[Row]:
        """Return a row for each picture, in their order. A text in `pixels` is an error message."""
        decoded = [item for item in pixels if isinstance(item, torch.Tensor)]
        captions = iter(self._caption(torch.stack(decoded)) if decoded else [])
        rows: list[Row] = []
        for picture, item in zip(batch, pixels, strict=True):
            if isinstance(item, str):
                rows.append({"path": picture.path, "error": item})
            else:
                fields = [self._fields(caption) for caption in next(captions)]
                rows.append({"path": picture.path, "captions": fields, "model": self._captioner.version})
        return rows

    def _caption(self, pixels: torch.Tensor) -> list[list[Caption]]:
        """Caption a batch, in halves if the device runs out of memory."""
        try:
            return self._captioner.caption_pixels(pixels, self._options.decoding)
        except torch.OutOfMemoryError:
            if len(pixels) == 1:
                raise
        half = len(pixels) // 2
        return self._caption(pixels[:half]) + self._caption(pixels[half:])

    def _fields(self, caption: Caption) -> dict[str, Any]:
        fields = caption.as_dict()
        if self._options.attention == "none":
            del fields["words"]
        elif self._options.attention == "heatmap":
            for word in fields["words"]:
                del word["attention"]
        return fields

    def _prepare(self, batch: Sequence[StoredFile]) -> "Future[list[torch.Tensor | str]]":
        async def prepare() -> list[torch.Tensor | str]:
            return await asyncio.gather(*map(self._pixels, batch))

        return self._start(prepare())

    async def _pixels(self, picture: StoredFile) -> torch.Tensor | str:
        """Decode a picture to the captioner's input (3, S, S), or return an error message."""
        too_large = f"larger than {_LIMITS.max_bytes // 2**20} MiB"
        if picture.size > _LIMITS.max_bytes:
            return too_large
        try:
            data = await asyncio.to_thread(self._source.read, picture.path, _LIMITS.max_bytes + 1)
            if len(data) > _LIMITS.max_bytes:
                return too_large
            working = await self._decoder.prepare(io.BytesIO(data))
        except PictureRefused as refused:
            return refused.detail
        except OSError as error:
            return error.strerror or str(error).partition("\n")[0]
        # The decoder returns a JPEG that it encoded itself, so that Pillow may open it here.
        return await asyncio.to_thread(lambda: self._captioner.prepare(Image.open(io.BytesIO(working.data))))

    def _start(self, work: "Coroutine[Any, Any, T]") -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def _start_decoder() -> PictureDecoder:
    decoder = PictureDecoder(
        processes=_DECODERS,
        limits=_LIMITS,
        max_waiting=2**20,
    )
    for _ in range(3):  # on a busy machine, a start may take several attempts
        try:
            await decoder.start()
            break
        except DecoderBusy:
            continue
    else:
        await decoder.start()
    return decoder
