"""Knowledge distillation (Hinton, Vinyals and Dean, 2015): one captioner learns what several would say between them.

In: a part of a batch; out: its loss. Teachers are told the true words as the student is, and what the student says next
is to be near to the mean of their distributions, word for word (Kim and Rush, 2016), with an ensemble for a teacher. It
must not know how the teachers were trained.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from model.captioner import Captioner, Seen
from model.training.batches import Batch
from model.training.likelihood import Likelihood
from model.vocabulary import PAD


class Distillation:
    """The objective: `weight` of the divergence from the teachers, and 1 - `weight` of the likelihood."""

    figures: Sequence[str] = ("loss", "likelihood_loss", "divergence")

    def __init__(self, weight: float, teachers: Sequence[Captioner], likelihood: Likelihood) -> None:
        """`teachers` must have the student's vocabulary, and an encoder that sees what its encoder sees."""
        self._weight, self._teachers, self._likelihood = weight, teachers, likelihood

    def shares(self, captioner: Captioner, seen: Seen, part: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """As Objective.shares has it: the loss, and the two that it is made of."""
        logits, attention = self._likelihood.unroll(captioner, seen, part, epoch)
        likelihood = self._likelihood.loss(logits, attention, part)
        real = part.targets != PAD  # what padding would say is not compared
        told = self._told(seen, part.inputs, real)
        # KL(teachers || student)
        divergence = nn.functional.kl_div(logits[real].log_softmax(dim=1), told, reduction="sum", log_target=True)
        divergence = divergence / part.whole.words
        return {
            "loss": self._weight * divergence + (1 - self._weight) * likelihood,
            "likelihood_loss": likelihood.detach(),
            "divergence": divergence.detach(),
        }

    @torch.no_grad()
    def _told(self, seen: Seen, inputs: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """The logarithm of the teachers' mean (N, V) after those N of `inputs` (B, R, T) that are `real`."""
        logprobs = [
            teacher.decoder(teacher.memorise(seen), inputs)[0][real].log_softmax(dim=1) for teacher in self._teachers
        ]
        return torch.stack(logprobs).logsumexp(dim=0) - math.log(len(logprobs))
