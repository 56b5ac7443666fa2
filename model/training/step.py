"""One optimiser step. In: a batch, as parts; out: changed weights and the batch's figures.

The same for every objective, and the same (but for rounding and dropout) into however many parts and processes the
batch is divided.
"""

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from model.captioner import Captioner
from model.training.loading import Part
from model.training.objective import Objective
from model.training.optimiser import rate_factor, trained_parameters
from model.training.processes import Processes
from model.training.recipe import Recipe


class Stepper:
    """Takes optimiser steps, one after the other."""

    def __init__(
        self,
        recipe: Recipe,
        objective: Objective,
        captioner: Captioner,
        average: AveragedModel,
        optimiser: torch.optim.Optimizer,
        processes: Processes,
        steps_per_epoch: int,
    ) -> None:
        self._recipe, self._objective, self._processes = recipe, objective, processes
        self._captioner, self._average, self._optimiser = captioner, average, optimiser
        self._parameters = trained_parameters(captioner)
        self._rates = [group["lr"] for group in optimiser.param_groups]
        self._steps_per_epoch = steps_per_epoch

    def step(self, parts: list[Part], epoch: int, step: int) -> dict[str, float]:
        """Step number `step` of `epoch`; `parts` are those of this process. Returns the figures of the whole batch."""
        self._set_rates(epoch * self._steps_per_epoch + step)
        self._set_chance(epoch, step)
        self._optimiser.zero_grad(set_to_none=True)
        figures: dict[str, torch.Tensor] = {}
        for part in parts:
            shares = self._backward(part.to(self._processes.device), epoch)
            figures = {name: figures.get(name, 0.0) + share for name, share in shares.items()}
        self._processes.sum_gradients(self._parameters)
        nn.utils.clip_grad_norm_(self._parameters, self._recipe.gradient_norm)
        self._optimiser.step()
        self._average.update_parameters(self._captioner)
        return self._total(figures)

    def _backward(self, part: Part, epoch: int) -> dict[str, torch.Tensor]:
        with autocast(self._recipe, self._processes.device):
            seen = self._captioner.see(part.trunk.float())
            shares = self._objective.shares(self._captioner, seen, part.batch, epoch)
        shares["loss"].backward()  # type: ignore[no-untyped-call]
        return {name: share.detach() for name, share in shares.items()}

    def _total(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """The figures summed over the processes, of which one that had no part of the batch knows no names."""
        names = self._objective.figures
        total = torch.stack([torch.as_tensor(figures.get(name, 0.0), device=self._processes.device) for name in names])
        self._processes.sum(total)
        return dict(zip(names, total.tolist(), strict=True))

    def _set_rates(self, step: int) -> None:
        factor = rate_factor(step, self._recipe.epochs * self._steps_per_epoch, self._recipe.warmup_steps)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _set_chance(self, epoch: int, step: int) -> None:
        """Dropout anew for every step, and another in every process: a resumed run needs no memory of it."""
        seeds = np.random.SeedSequence([self._recipe.seed, epoch, step, self._processes.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Mixed precision, where the recipe asks for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16)
