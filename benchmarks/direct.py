"""The same work without a service: JPEG files through the model, in one process, one batch after the other.

In: JPEG files; out: seconds, of all and of each stage. Decoding is the web process's own, the model and the options
are the worker's: what a service adds is everything else.
"""

import io
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from app.images.limits import ImageLimits
from app.images.picture import prepare
from jobs.options import CaptionOptions
from model.device import choose_device
from model.engines.choice import load_ready
from model.options import DecodingOptions

STAGES = ("decode", "prepare", "encode", "write")


class Direct:
    """A captioner in this process."""

    def __init__(self, folder: Path, batch_size: int, threads: int) -> None:
        """`threads` as WORDLIGHT_THREADS has it: 0 lets PyTorch choose."""
        if threads:
            torch.set_num_threads(threads)
        self._captioner = load_ready(folder, choose_device("auto"))
        self._batch_size = batch_size
        asked = CaptionOptions()
        self._options = DecodingOptions(
            num_captions=asked.num_captions, beam_size=asked.beam_size, max_words=asked.max_words
        )
        self.stages: Counter[str] = Counter()  # seconds

    def caption(self, jpegs: Sequence[bytes]) -> float:
        """Caption all of them, in batches; returns the seconds that it took."""
        started = time.perf_counter()
        for first in range(0, len(jpegs), self._batch_size):
            self._batch(jpegs[first : first + self._batch_size])
        return time.perf_counter() - started

    def _batch(self, jpegs: Sequence[bytes]) -> None:
        moments = [time.perf_counter()]
        pictures = [prepare(jpeg, ImageLimits()).data for jpeg in jpegs]
        moments.append(time.perf_counter())
        images = [Image.open(io.BytesIO(picture)) for picture in pictures]
        pixels = torch.stack([self._captioner.prepare(image) for image in images])
        moments.append(time.perf_counter())
        memory = self._captioner.encode(pixels)
        moments.append(time.perf_counter())
        self._captioner.write(memory, self._options)
        moments.append(time.perf_counter())
        for stage, begun, ended in zip(STAGES, moments, moments[1:], strict=False):
            self.stages[stage] += ended - begun
