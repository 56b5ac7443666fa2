"""The encoder in OpenVINO, several times faster on a CPU than in PyTorch.

Translating the network takes seconds, so translations are cached on disk.
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
from model.runtime.engines.cache import TranslationCache
from model.runtime.engines.pytorch import Precision

if TYPE_CHECKING:
    from model.runtime.captioner import Captioner

PRECISIONS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
_FILE = "encoder.xml"  # with the weights beside it
# Larger batches need more memory and are not faster.
_BATCH = 4


class OpenVINO:
    """See Engine."""

    name = "openvino"

    def __init__(self, captioner: "Captioner", precision: Precision, cache: TranslationCache | None = None) -> None:
        """Load the translation from the cache, or translate the encoder. Uses as many threads as PyTorch.

        The captioner needs its own encoder only if there is no cached translation. Raises EncoderMissing, and
        OpenVINO's exceptions if it cannot run the network.
        """
        self._decoder = captioner.decoder
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, with all threads
            # With pinning, the threads of all processes share the first cores.
            "ENABLE_CPU_PINNING": False,
        }
        core = openvino.Core()
        model = _translated(core, captioner, cache or TranslationCache(captioner.version, openvino.__version__))
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._lock = threading.Lock()

    def encode(self, pixels: torch.Tensor) -> EncodedImages:
        """See Engine. Thread-safe: calls run one at a time."""
        batch = pixels.numpy()
        with self._lock:
            parts = [
                self._request.infer([batch[start : start + _BATCH]], share_inputs=True).values()
                for start in range(0, len(batch), _BATCH)
            ]
        return self._decoder.from_tensors(
            torch.from_numpy(np.concatenate(tensors)) for tensors in zip(*parts, strict=True)
        )


class _Encode(nn.Module):
    """Captioner.encode_in_pytorch with tensors as input and output, for tracing."""

    def __init__(self, captioner: "Captioner") -> None:
        super().__init__()
        self._captioner = captioner

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode pixels to the tensors of EncodedImages."""
        encoded = self._captioner.encode_in_pytorch(pixels)
        return encoded.tensors


def translate(module: nn.Module, size: int) -> openvino.Model:
    """Translate a module that takes pixels (B, 3, size, size), uint8."""
    pixels = torch.zeros((1, 3, size, size), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about shapes that tracing makes constant; only the batch size varies
        traced = torch.jit.trace(module, pixels, check_trace=False)  # type: ignore[no-untyped-call]
        shape = openvino.PartialShape([-1, 3, size, size])
        return openvino.convert_model(traced, example_input=pixels, input=[(shape, openvino.Type.u8)])


def _translated(core: openvino.Core, captioner: "Captioner", cache: TranslationCache) -> openvino.Model:
    """Return the translated network, from the cache if possible."""
    cached = cache.get(_FILE)
    if cached is not None:
        try:
            return core.read_model(cached)
        except RuntimeError:
            pass  # damaged; replaced below
    model = translate(_Encode(captioner).eval(), captioner.config.image_size)

    def write(folder: Path) -> None:
        # Half precision loses some of the batch statistics that are folded into the weights.
        openvino.save_model(model, folder / _FILE, compress_to_fp16=False)

    cache.put(write)
    return model
