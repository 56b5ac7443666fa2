"""The encoder's frozen trunk, as fast as this machine computes it: what training asks of every view of every image.

On a CPU it is OpenVINO's, several times as fast as PyTorch. It must not know of files.
"""

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import openvino
import torch
from torch import nn

from model.encoder import Encoder
from model.pixels import normalise

# uint8 pixels (B, 3, S, S) to the trunk's activations (B, C', R', R'), float16. Thread-safe.
Trunk = Callable[[torch.Tensor], npt.NDArray[np.float16]]


def make_trunk(encoder: Encoder, image_size: int, *, bfloat16: bool, threads: int) -> Trunk:
    """The trunk of `encoder`, for as many `threads` as ask for it at the same time."""
    device = next(encoder.parameters()).device
    if device.type == "cpu":
        return _by_openvino(encoder, image_size, bfloat16=bfloat16, threads=threads)

    @torch.inference_mode()
    def run(pixels: torch.Tensor) -> npt.NDArray[np.float16]:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return encoder.trunk(normalise(pixels.to(device))).half().cpu().numpy()

    return run


def _by_openvino(encoder: Encoder, image_size: int, *, bfloat16: bool, threads: int) -> Trunk:
    pixels = torch.zeros((1, 3, image_size, image_size), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about shapes that tracing takes for constants: only the batch's may change
        traced = torch.jit.trace(_Trunk(encoder), pixels, check_trace=False)  # type: ignore[no-untyped-call]
        shape = openvino.PartialShape([-1, 3, image_size, image_size])
        network = openvino.convert_model(traced, example_input=pixels, input=[(shape, openvino.Type.u8)])
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(network, "CPU", settings)

    def run(pixels: torch.Tensor) -> npt.NDArray[np.float16]:
        (activations,) = compiled.create_infer_request().infer([pixels.numpy()], share_inputs=True).values()
        return activations.astype(np.float16)  # type: ignore[no-any-return]

    return run


class _Trunk(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """From pixels, not normalised."""
        return self._encoder.trunk(normalise(pixels))
