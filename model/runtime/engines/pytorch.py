"""The engine interface, and the reference engine: PyTorch."""

from collections.abc import Callable
from typing import Literal, Protocol

import torch

from model.network.encoded_images import EncodedImages

# The precision of matrix products. Sums and probabilities are always float32.
Precision = Literal["fp32", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Engine(Protocol):
    """Computes the encoder of one captioner."""

    name: str

    def encode(self, pixels: torch.Tensor) -> EncodedImages:
        """Encode prepared pixels (B, 3, S, S), uint8, on the captioner's device."""
        ...


class PyTorch:
    """See Engine. The only engine for GPUs."""

    name = "pytorch"

    def __init__(
        self, encode_in_pytorch: Callable[[torch.Tensor], EncodedImages], device: torch.device, precision: Precision
    ) -> None:
        """`encode_in_pytorch` is Captioner.encode_in_pytorch."""
        self._encode, self._device, self._dtype = encode_in_pytorch, device, DTYPES[precision]

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> EncodedImages:
        """See Engine."""
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self._encode(pixels)
