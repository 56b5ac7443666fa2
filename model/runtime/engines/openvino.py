"""The encoder in OpenVINO, which is several times faster on a CPU than PyTorch.

The network is translated once and kept on disk, because translation takes seconds.
"""

import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openvino
import torch
from torch import nn

from model.network.encoded_images import EncodedImages
from model.runtime.engines.engine import Precision
from model.runtime.engines.store import Store

if TYPE_CHECKING:
    from model.runtime.captioner import Captioner

_PRECISIONS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
_FILE = "encoder.xml"  # with the weights beside it
# Larger batches need more memory and are no faster than four.
_AT_ONCE = 4


class OpenVINO:
    """See Engine."""

    name = "openvino"

    def __init__(self, captioner: "Captioner", precision: Precision, store: Store | None = None) -> None:
        """Load or make the translation. The engine uses as many threads as PyTorch.

        The captioner needs its own encoder only if there is no translation yet. Raises EncoderMissing, and OpenVINO's
        exceptions if it cannot run the network.
        """
        self._decoder = captioner.decoder
        settings = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, with all threads
            # Otherwise every process would pin its threads to the same cores, the first ones.
            "ENABLE_CPU_PINNING": False,
        }
        core = openvino.Core()
        model = _translated(core, captioner, store or Store(captioner.version, openvino.__version__))
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._one_at_a_time = threading.Lock()

    def encode(self, pixels: torch.Tensor) -> EncodedImages:
        """See Engine. Thread-safe: calls run one at a time."""
        batch = pixels.numpy()
        with self._one_at_a_time:
            parts = [
                self._request.infer([batch[start : start + _AT_ONCE]], share_inputs=True).values()
                for start in range(0, len(batch), _AT_ONCE)
            ]
        return self._decoder.from_tensors(
            torch.from_numpy(np.concatenate(tensors)) for tensors in zip(*parts, strict=True)
        )


class _Look(nn.Module):
    """Captioner.look with tensors as input and output, for tracing."""

    def __init__(self, captioner: "Captioner") -> None:
        super().__init__()
        self._captioner = captioner

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode pixels to EncodedImages.tensors."""
        encoded = self._captioner.encode_in_pytorch(pixels)
        return encoded.tensors


def _translated(core: openvino.Core, captioner: "Captioner", store: Store) -> openvino.Model:
    kept = store.find(_FILE)
    if kept is not None:
        try:
            return core.read_model(kept)
        except RuntimeError:
            pass  # damaged: it is replaced below
    side = captioner.config.image_size
    pixels = torch.zeros((1, 3, side, side), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about shapes that tracing makes constant: only the batch size can change
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            _Look(captioner).eval(), pixels, check_trace=False
        )
        shape = openvino.PartialShape([-1, 3, side, side])
        model = openvino.convert_model(traced, example_input=pixels, input=[(shape, openvino.Type.u8)])

    def write(folder: Path) -> None:
        # Half precision would lose some of the batch statistics that are folded into the weights.
        openvino.save_model(model, folder / _FILE, compress_to_fp16=False)

    store.keep(write)
    return model
