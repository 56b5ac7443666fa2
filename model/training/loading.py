"""Batches with what the trunk said of their images, ready for the device. In: batches and activations; out: parts.

A part is what is computed at once: with several processes, or several micro-batches for one optimiser step, a batch
is computed in parts. It must not know what is computed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from model.training.batches import Batch
from model.training.processes import Processes


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a batch, and the trunk's activations (B, C', R', R') for its images, float16."""

    batch: Batch
    trunk: torch.Tensor

    def to(self, device: torch.device) -> "Part":
        """The same with its tensors on `device`."""
        inputs, targets, trunk = (
            tensor.to(device, non_blocking=True) for tensor in (self.batch.inputs, self.batch.targets, self.trunk)
        )
        return Part(replace(self.batch, inputs=inputs, targets=targets), trunk)

    def pinned(self) -> "Part":
        """The same in page-locked memory, from which a GPU copies while it computes."""
        batch = replace(self.batch, inputs=self.batch.inputs.pin_memory(), targets=self.batch.targets.pin_memory())
        return Part(batch, self.trunk.pin_memory())


def load_parts(
    batches: Iterator[Batch],
    activations: npt.NDArray[np.float16],
    processes: Processes,
    *,
    accumulate: int,
) -> Iterator[list[Part]]:
    """For each batch those parts that this process is to compute, one after the other: up to `accumulate`.

    `activations` (views, images, C', R', R') are read from disk as needed.
    """
    for batch in batches:
        mine = batch.split(processes.count * accumulate)[processes.rank * accumulate :][:accumulate]
        groups = [group for part in mine if len(part.images) for group in part.by_captions()]
        parts = [Part(group, torch.from_numpy(activations[group.views, group.images])) for group in groups]
        yield [part.pinned() for part in parts] if processes.device.type == "cuda" else parts
