"""The optimiser of a training run: AdamW over two groups, a warm-up with a cosine fall, and averaged weights."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from model.captioner import Captioner
from model.training.recipe import Recipe


def make_optimiser(captioner: Captioner, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019); weight decay only where it is meant, on matrices and kernels."""
    groups = []
    detector = list(captioner.detector.parameters()) if captioner.detector is not None else []
    for parameters, rate in (
        ([*captioner.decoder.parameters(), *detector], recipe.learning_rate),
        (captioner.encoder.tail_parameters(), recipe.tail_learning_rate),
    ):
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        others = [parameter for parameter in trained if parameter.ndim <= 1]
        groups.append({"params": matrices, "lr": rate, "weight_decay": recipe.weight_decay})
        groups.append({"params": others, "lr": rate, "weight_decay": 0.0})
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98), fused=True)


def rate_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """What the learning rate is multiplied with: up in a line, then down along half a cosine to one twentieth."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


def make_average(captioner: Captioner, decay: float) -> AveragedModel:
    """An exponential moving average of the captioner's parameters, itself a captioner under `.module`."""

    def blend(averages: Sequence[torch.Tensor], currents: Sequence[torch.Tensor], updates: torch.Tensor | int) -> None:
        # Young averages forget faster, or the untrained weights that they began with would stay in them for long.
        young = (1 + int(updates)) / (10 + int(updates))
        for average, current in zip(averages, currents, strict=True):
            average.lerp_(current, 1 - min(decay, young))

    average = AveragedModel(captioner, multi_avg_fn=blend)
    average.requires_grad_(False)
    return average.eval()


def freeze(captioner: Captioner, recipe: Recipe) -> None:
    """Let no gradient reach what `recipe` leaves as it is."""
    captioner.encoder.requires_grad_(False)
    if captioner.detector is not None:
        # A head on the tail learns with it; of another one training/detection.py has made what it will be.
        captioner.detector.requires_grad_(captioner.encoder.general is None and recipe.tail_learning_rate > 0)
    for parameter in captioner.encoder.tail_parameters():
        parameter.requires_grad_(recipe.tail_learning_rate > 0)


def trained_parameters(captioner: Captioner) -> list[nn.Parameter]:
    """All parameters that the optimiser may change."""
    parameters = [*captioner.decoder.parameters(), *captioner.encoder.tail_parameters()]
    if captioner.detector is not None:
        parameters += captioner.detector.parameters()
    return [parameter for parameter in parameters if parameter.requires_grad]
