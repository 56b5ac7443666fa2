"""The encoder in OpenVINO, several times faster on a CPU than PyTorch.

In: a captioner on the CPU; out: an engine. The network is translated once and kept on disk, since that takes seconds.
It must not know what is in the network.
"""

import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openvino
import torch
from torch import nn

from model.engines.engine import Precision
from model.engines.store import Store
from model.memory import Memory

if TYPE_CHECKING:
    from model.captioner import Captioner

_PRECISIONS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
_FILE = "encoder.xml"  # with the weights beside it
# More pictures at once take more memory, and no less time: four are as fast as eight or sixteen.
_AT_ONCE = 4


class OpenVINO:
    """See Engine."""

    name = "openvino"

    def __init__(self, captioner: "Captioner", precision: Precision, store: Store | None = None) -> None:
        """Uses as many threads as PyTorch does.

        The captioner's own encoder is needed only where no translation was kept. Raises EncoderMissing, and what
        OpenVINO raises when it cannot run the network.
        """
        self._decoder = captioner.decoder
        settings = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, with all threads
            # Every process would pin its threads to the same cores, the first ones.
            "ENABLE_CPU_PINNING": False,
        }
        core = openvino.Core()
        model = _translated(core, captioner, store or Store(captioner.version, openvino.__version__))
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._one_at_a_time = threading.Lock()

    def encode(self, pixels: torch.Tensor) -> Memory:
        """See Engine. May be called from several threads, which wait for each other."""
        batch = pixels.numpy()
        with self._one_at_a_time:
            parts = [
                self._request.infer([batch[start : start + _AT_ONCE]], share_inputs=True).values()
                for start in range(0, len(batch), _AT_ONCE)
            ]
        return self._decoder.remember(torch.from_numpy(np.concatenate(tensors)) for tensors in zip(*parts, strict=True))


class _Look(nn.Module):
    """The captioner's look at pictures, as tensors in, tensors out."""

    def __init__(self, captioner: "Captioner") -> None:
        super().__init__()
        self._captioner = captioner

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Pixels to the memory's tensors."""
        memory = self._captioner.look(pixels)
        return memory.tensors


def _translated(core: openvino.Core, captioner: "Captioner", store: Store) -> openvino.Model:
    kept = store.find(_FILE)
    if kept is not None:
        try:
            return core.read_model(kept)
        except RuntimeError:
            pass  # damaged: it will be replaced
    side = captioner.config.image_size
    pixels = torch.zeros((1, 3, side, side), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about shapes that tracing takes for constants: only the batch's may change
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            _Look(captioner).eval(), pixels, check_trace=False
        )
        shape = openvino.PartialShape([-1, 3, side, side])
        model = openvino.convert_model(traced, example_input=pixels, input=[(shape, openvino.Type.u8)])

    def write(folder: Path) -> None:
        # Not in half precision: that loses some of what was folded into the weights.
        openvino.save_model(model, folder / _FILE, compress_to_fp16=False)

    store.keep(write)
    return model
