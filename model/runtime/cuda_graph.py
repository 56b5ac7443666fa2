"""CUDA graphs: record the steps of a decoder once and replay them.

A step is then one launch instead of about a hundred. Batches are padded to the next power of two, so that there are few
shapes to record.
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

StepResult = tuple[torch.Tensor, State, torch.Tensor]
# Runs a step. Returns a function that replays it, and its results, which every replay overwrites.
Record = Callable[[Callable[[], StepResult]], tuple[Callable[[], None], StepResult]]

_MAX_RECORDINGS = 48  # the least recently used one is dropped
_WARM_UP = 3  # runs before a recording, in which libraries choose kernels and allocate memory


class CudaGraphDecoder:
    """See StepDecoder.

    If a step cannot be recorded, or its replay gives other results, all steps run without graphs.
    """

    def __init__(self, decoder: StepDecoder, record: Record | None = None) -> None:
        """`record` replaces CUDA graphs in tests."""
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
        """The number of recorded shapes."""
        return len(self._steps)

    def start(self, encoded: EncodedImages, rows: int) -> State:
        """See StepDecoder."""
        return self._decoder.start(encoded, rows)

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor, state: State, encoded: EncodedImages) -> StepResult:
        """See StepDecoder. Raises torch.OutOfMemoryError."""
        # A recording would freeze the current state of autocast.
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
            except (RuntimeError, RecordingMismatch) as error:
                log.warning("CUDA graphs are disabled; decoding is slower: %s", str(error).splitlines()[0])
                self.failed = True
                self._steps.clear()
                return self._decoder.step(tokens, state, encoded)
            self._steps[shape] = recorded
            if len(self._steps) > _MAX_RECORDINGS:
                self._steps.popitem(last=False)
        self._steps.move_to_end(shape)
        return recorded.run(tokens, state, encoded)


class RecordingMismatch(Exception):
    """A replay gives other results than the step that was recorded."""


class _RecordedStep:
    """A recorded step for at most `images` images, with its input and output tensors."""

    def __init__(
        self,
        decoder: StepDecoder,
        images: int,
        tokens: torch.Tensor,
        state: State,
        encoded: EncodedImages,
        record: Record,
    ) -> None:
        self._tokens = _zeros(tokens, images)
        self._state = State(tuple(_zeros(part, images) for part in state.parts))
        self._encoded = encoded.with_tensors(_zeros(tensor, images) for tensor in encoded.tensors)
        self._encoded_from: weakref.ref[torch.Tensor] | None = None
        self._fill(tokens, state, encoded)
        self._replay, self._results = record(lambda: decoder.step(self._tokens, self._state, self._encoded))
        expected = decoder.step(tokens, state, encoded)
        for own, other in zip(_flat(self.run(tokens, state, encoded)), _flat(expected), strict=True):
            if not torch.allclose(own, other, atol=1e-3, rtol=1e-3):
                raise RecordingMismatch("a replayed step gives other results")

    def run(self, tokens: torch.Tensor, state: State, encoded: EncodedImages) -> StepResult:
        """Run the step for at most `images` images."""
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
        # The encoded images are large, and the same for many steps.
        if self._encoded_from is None or self._encoded_from() is not encoded.annotations:
            for own, tensor in zip(self._encoded.tensors, encoded.tensors, strict=True):
                own[: len(tensor)].copy_(tensor)
            self._encoded_from = weakref.ref(encoded.annotations)


def _zeros(tensor: torch.Tensor, images: int) -> torch.Tensor:
    """Return zeros like `tensor` (B, …), for `images` images."""
    return tensor.new_zeros((images, *tensor.shape[1:]))


def _flat(stepped: StepResult) -> tuple[torch.Tensor, ...]:
    logits, state, weights = stepped
    return logits, *state.parts, weights


class _CudaGraphs:
    """See Record. The graphs share a memory pool (PyTorch documentation, "CUDA semantics", section "CUDA Graphs")."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Callable[[], StepResult]) -> tuple[Callable[[], None], StepResult]:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device during the capture.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            results = function()
        return graph.replay, results
