"""A decoder whose steps are recorded once and replayed: on a GPU a step is then one launch, and not a hundred.

In: a decoder; out: one that gives the same numbers. Batches are filled up to the next power of two, so that there are
few shapes to record. It must not know what a step does.
"""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from model.network.cells import State
from model.network.decoder import StepDecoder
from model.network.encoded_images import EncodedImages

log = logging.getLogger(__name__)

Stepped = tuple[torch.Tensor, State, torch.Tensor]
# Runs what it is given, and returns what repeats that, and its results, which every repetition overwrites.
Record = Callable[[Callable[[], Stepped]], tuple[Callable[[], None], Stepped]]

_SHAPES = 48  # recorded at once: the least recently used is forgotten
_WARM_UP = 3  # runs before a recording: libraries choose and allocate in the first


class CudaGraphDecoder:
    """See StepDecoder.

    Where a step cannot be recorded, or its recording gives other numbers, steps are computed as they were before.
    """

    def __init__(self, decoder: StepDecoder, record: Record | None = None) -> None:
        """`record` is for devices other than a GPU of NVIDIA's."""
        self._decoder = decoder
        self._record = record or _CudaGraphs()
        self._steps: OrderedDict[tuple[int, ...], _RecordedStep] = OrderedDict()
        self.failed = False

    @property
    def output_bias(self) -> torch.Tensor:
        """See StepDecoder."""
        return self._decoder.output_bias

    @property
    def recorded(self) -> int:
        """How many shapes are recorded."""
        return len(self._steps)

    def start(self, encoded: EncodedImages, rows: int) -> State:
        """See StepDecoder."""
        return self._decoder.start(encoded, rows)

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor, state: State, encoded: EncodedImages) -> Stepped:
        """See StepDecoder. Raises torch.OutOfMemoryError."""
        # Autocast would be recorded as it happens to be.
        if self.failed or torch.is_autocast_enabled(tokens.device.type):
            return self._decoder.step(tokens, state, encoded)
        images = 1 << (len(tokens) - 1).bit_length()
        shape = (images, tokens.shape[1], *encoded.annotations.shape[1:])
        recorded = self._steps.get(shape)
        if recorded is None:
            try:
                recorded = _RecordedStep(self._decoder, images, tokens, state, encoded, self._record)
            except torch.OutOfMemoryError:
                self._steps.clear()
                raise
            except (RuntimeError, NotTheSame) as error:
                log.warning("steps are not recorded, and slower for it: %s", str(error).splitlines()[0])
                self.failed = True
                self._steps.clear()
                return self._decoder.step(tokens, state, encoded)
            self._steps[shape] = recorded
            if len(self._steps) > _SHAPES:
                self._steps.popitem(last=False)
        self._steps.move_to_end(shape)
        return recorded.run(tokens, state, encoded)


class NotTheSame(Exception):
    """A recording gives other numbers than what was recorded."""


class _RecordedStep:
    """A step for up to so many images, with the tensors that it reads and writes."""

    def __init__(
        self,
        decoder: StepDecoder,
        images: int,
        tokens: torch.Tensor,
        state: State,
        encoded: EncodedImages,
        record: Record,
    ) -> None:
        self._tokens = _room(tokens, images)
        self._state = State(tuple(_room(part, images) for part in state.parts))
        self._memory = encoded.with_tensors(_room(tensor, images) for tensor in encoded.tensors)
        self._filled_from: weakref.ref[torch.Tensor] | None = None
        self._fill(tokens, state, encoded)
        self._replay, self._results = record(lambda: decoder.step(self._tokens, self._state, self._memory))
        expected = decoder.step(tokens, state, encoded)
        for own, other in zip(_flat(self.run(tokens, state, encoded)), _flat(expected), strict=True):
            if not torch.allclose(own, other, atol=1e-3, rtol=1e-3):
                raise NotTheSame("a recorded step gives other numbers")

    def run(self, tokens: torch.Tensor, state: State, encoded: EncodedImages) -> Stepped:
        """The step, for no more images than there is room for."""
        self._fill(tokens, state, encoded)
        self._replay()
        logits, new, weights = self._results
        count = len(tokens)
        # Copies: the next replay writes into the same tensors.
        return logits[:count].clone(), State(tuple(p[:count].clone() for p in new.parts)), weights[:count].clone()

    def _fill(self, tokens: torch.Tensor, state: State, encoded: EncodedImages) -> None:
        self._tokens[: len(tokens)].copy_(tokens)
        for own, part in zip(self._state.parts, state.parts, strict=True):
            own[: len(part)].copy_(part)
        # What is known of the images is much, and the same for many steps.
        if self._filled_from is None or self._filled_from() is not encoded.annotations:
            for own, tensor in zip(self._memory.tensors, encoded.tensors, strict=True):
                own[: len(tensor)].copy_(tensor)
            self._filled_from = weakref.ref(encoded.annotations)


def _room(tensor: torch.Tensor, images: int) -> torch.Tensor:
    """Zeros like `tensor` (B, …), of so many images."""
    return tensor.new_zeros((images, *tensor.shape[1:]))


def _flat(stepped: Stepped) -> tuple[torch.Tensor, ...]:
    logits, state, weights = stepped
    return logits, *state.parts, weights


class _CudaGraphs:
    """See Record: as CUDA graphs (pytorch.org, "CUDA semantics", section "CUDA Graphs"), which share their memory."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Callable[[], Stepped]) -> tuple[Callable[[], None], Stepped]:
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                function()
        torch.cuda.current_stream().wait_stream(aside)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            results = function()
        return graph.replay, results
