"""The processes that train one captioner together, as `torchrun` starts them. One alone is the same with a count of 1.

In: numbers and gradients of this process; out: those of all. Every process holds all weights, computes its share of
each batch and takes the same optimiser steps (distributed data parallelism). Gradients are added up in one go after
the backward passes and not, as DistributedDataParallel does, averaged during them: a process's share of the loss is
weighed by its words already, a step may have several backward passes, and our networks are small.
It must not know what is trained.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes there are, and which of them this is."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is up to this process to write files and to report."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> None:
        """Replace `tensor`, here and everywhere, by its sum over the processes."""
        if self.count > 1:
            distributed.all_reduce(tensor)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; one that computed nothing adds nothing."""
        if self.count == 1:
            return
        parameters = list(parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        # In one piece, since each message costs time of its own.
        total = torch.cat([gradient.flatten() for gradient in gradients])
        self.sum(total)
        parts = torch.split(total, [parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def agree(self, value: float) -> float:
        """The first process's `value`: what the run's course depends on must be the same to the last bit."""
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
    """The processes that `torchrun` started with this one; without it, this one alone.

    On GPUs each process gets its own, unless `device` names one.
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
        # Nobody leaves while others may still have something to say to it.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
