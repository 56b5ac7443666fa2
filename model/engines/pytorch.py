"""The encoder in PyTorch: the reference, and the engine of GPUs."""

from collections.abc import Callable

import torch

from model.engines.engine import DTYPES, Precision
from model.memory import Memory


class PyTorch:
    """See Engine."""

    name = "pytorch"

    def __init__(self, look: Callable[[torch.Tensor], Memory], device: torch.device, precision: Precision) -> None:
        """`look` is the captioner's own."""
        self._look, self._device, self._dtype = look, device, DTYPES[precision]

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> Memory:
        """See Engine."""
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self._look(pixels)
