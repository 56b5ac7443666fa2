"""The encoder's frozen trunk for training: in OpenVINO on a CPU, which is several times as fast as PyTorch."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import openvino
import torch
from torch import nn

from model.network.encoder import Encoder
from model.runtime.engines.openvino import PRECISIONS, translate
from model.runtime.pixels import normalise

# Computes activations (B, C', R', R'), float16, from pixels (B, 3, S, S), uint8. Thread-safe.
Trunk = Callable[[torch.Tensor], npt.NDArray[np.float16]]


def make_trunk(encoder: Encoder, image_size: int, *, bfloat16: bool, threads: int) -> Trunk:
    """Make the trunk of `encoder` for up to `threads` calls at the same time."""
    device = next(encoder.parameters()).device
    if device.type == "cpu":
        return _in_openvino(encoder, image_size, bfloat16=bfloat16, threads=threads)

    @torch.inference_mode()
    def run(pixels: torch.Tensor) -> npt.NDArray[np.float16]:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return encoder.trunk(normalise(pixels.to(device))).half().cpu().numpy()

    return run


def _in_openvino(encoder: Encoder, image_size: int, *, bfloat16: bool, threads: int) -> Trunk:
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISIONS["bf16" if bfloat16 else "fp32"],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,  # one thread per batch: together they are faster than all threads on one batch
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(translate(_Trunk(encoder), image_size), "CPU", settings)

    def run(pixels: torch.Tensor) -> npt.NDArray[np.float16]:
        (activations,) = compiled.create_infer_request().infer([pixels.numpy()], share_inputs=True).values()
        return activations.astype(np.float16)  # type: ignore[no-any-return]

    return run


class _Trunk(nn.Module):
    """Encoder.trunk with normalisation, for tracing."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute the trunk's activations from pixels."""
        return self._encoder.trunk(normalise(pixels))
