"""The processes that train one captioner together, as `torchrun` starts them.

Every process holds all weights, computes its share of each batch and takes the same optimiser steps (distributed data
parallelism). Gradients are summed at once after the backward passes. DistributedDataParallel would average them during
the passes, but here a process's share of the loss is already weighted by its words, a step can have several backward
passes, and the networks are small.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True, slots=True)
class Processes:
    """The number of processes, and the rank of this one. A single process has a count of 1."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> None:
        """Replace `tensor`, in every process, by its sum over the processes."""
        if self.count > 1:
            distributed.all_reduce(tensor)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes. A missing gradient counts as zero."""
        if self.count == 1:
            return
        parameters = list(parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        # In one piece, because every message costs time.
        total = torch.cat([gradient.flatten() for gradient in gradients])
        self.sum(total)
        parts = torch.split(total, [parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def agree(self, value: float) -> float:
        """Return the first process's `value`. What decides the course of a run must be equal to the last bit."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, src=0)
        return shared.item()

    def share(self, module: nn.Module) -> None:
        """Replace the weights of `module` by the first process's."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, src=0)


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that `torchrun` started. Without `torchrun`, there is one.

    On GPUs each process gets its own device, unless `device` names one.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if count == 1:
        yield Processes(device)
        return
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(device, rank, count)
        # A process that leaves early would break messages to it.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
