"""The optimiser: AdamW in two groups, warm-up and cosine decay, averaged weights, and one optimiser step.

A step is the same for every objective. It is also the same, except for rounding and dropout, however many parts and
processes a batch is divided into.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from model.runtime.captioner import Captioner
from model.training.batches import Part
from model.training.likelihood import Objective
from model.training.processes import Processes
from model.training.recipe import Recipe


def freeze(captioner: Captioner, recipe: Recipe) -> None:
    """Stop gradients at everything that `recipe` does not train."""
    captioner.encoder.requires_grad_(False)
    if captioner.detector is not None:
        # A detector on the trained tail learns together with it. Otherwise training/detection.py trains it.
        captioner.detector.requires_grad_(captioner.encoder.general is None and recipe.tail_learning_rate > 0)
    for parameter in captioner.encoder.tail_parameters():
        parameter.requires_grad_(recipe.tail_learning_rate > 0)


def trained_parameters(captioner: Captioner) -> list[nn.Parameter]:
    """List all parameters that the optimiser can change."""
    parameters = [*_head_parameters(captioner), *captioner.encoder.tail_parameters()]
    return [parameter for parameter in parameters if parameter.requires_grad]


def make_optimiser(captioner: Captioner, recipe: Recipe) -> torch.optim.AdamW:
    """Make AdamW (Loshchilov and Hutter, 2019). Weight decay applies to matrices and kernels only."""
    groups = []
    for parameters, rate in (
        (_head_parameters(captioner), recipe.learning_rate),
        (captioner.encoder.tail_parameters(), recipe.tail_learning_rate),
    ):
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        others = [parameter for parameter in trained if parameter.ndim <= 1]
        groups.append({"params": matrices, "lr": rate, "weight_decay": recipe.weight_decay})
        groups.append({"params": others, "lr": rate, "weight_decay": 0.0})
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98), fused=True)


def _head_parameters(captioner: Captioner) -> list[nn.Parameter]:
    """List the parameters of the decoder and of the word detector."""
    detector = captioner.detector.parameters() if captioner.detector is not None else ()
    return [*captioner.decoder.parameters(), *detector]


def rate_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Return the factor of the learning rate: linear warm-up, then half a cosine down to one twentieth."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


def make_average(captioner: Captioner, decay: float) -> AveragedModel:
    """Make an exponential moving average of the captioner's parameters. Its `.module` is a captioner."""

    def blend(averages: Sequence[torch.Tensor], currents: Sequence[torch.Tensor], updates: torch.Tensor | int) -> None:
        # A young average decays faster. Otherwise it would contain the untrained weights for a long time.
        young = (1 + int(updates)) / (10 + int(updates))
        for average, current in zip(averages, currents, strict=True):
            average.lerp_(current, 1 - min(decay, young))

    average = AveragedModel(captioner, multi_avg_fn=blend)
    average.requires_grad_(False)
    return average.eval()


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
        """Take step `step` of `epoch` with this process's `parts`. Returns the figures of the whole batch."""
        self._set_rates(epoch * self._steps_per_epoch + step)
        self._seed_dropout(epoch, step)
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
            seen = self._captioner.extract_features(part.trunk.float())
            shares = self._objective.shares(self._captioner, seen, part.batch, epoch)
        shares["loss"].backward()  # type: ignore[no-untyped-call]
        return {name: share.detach() for name, share in shares.items()}

    def _total(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """Sum the figures over the processes. A process without a part of the batch has none."""
        names = self._objective.figures
        total = torch.stack([torch.as_tensor(figures.get(name, 0.0), device=self._processes.device) for name in names])
        self._processes.sum(total)
        return dict(zip(names, total.tolist(), strict=True))

    def _set_rates(self, step: int) -> None:
        factor = rate_factor(step, self._recipe.epochs * self._steps_per_epoch, self._recipe.warmup_steps)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _seed_dropout(self, epoch: int, step: int) -> None:
        """Seed dropout for this step and process, so that a resumed run needs no state of it."""
        seeds = np.random.SeedSequence([self._recipe.seed, epoch, step, self._processes.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Enable mixed precision if the recipe asks for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16)
