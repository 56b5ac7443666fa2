"""What a training step makes smaller. Maximum likelihood is one (likelihood.py), self-critical training another."""

from collections.abc import Sequence
from typing import Protocol

import torch

from model.captioner import Captioner, Seen
from model.training.batches import Batch


class Objective(Protocol):
    """A way to get from a part of a batch to a loss."""

    figures: Sequence[str]  # the names of what `shares` returns

    def shares(self, captioner: Captioner, seen: Seen, part: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """What the images of `part`, of which the encoder has `seen` that, add to figures of the whole batch.

        "loss" is the one to make smaller; others are reported beside it. Each is a scalar, and the shares of all parts
        of a batch add up to its figure.
        """
        ...
