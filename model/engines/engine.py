"""What an engine is: it computes the encoder. In: pixels; out: all that must be known of the images."""

from typing import Literal, Protocol

import torch

from model.memory import Memory

# Of products. What is summed up, and probabilities, are float32 always.
Precision = Literal["fp32", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Engine(Protocol):
    """Computes the encoder of one captioner."""

    name: str

    def encode(self, pixels: torch.Tensor) -> Memory:
        """Prepared pixels (B, 3, S, S), uint8, to what the decoder writes from, on the captioner's device."""
        ...
