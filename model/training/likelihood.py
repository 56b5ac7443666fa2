"""Maximum likelihood: the true captions are to become as probable as can be. In: a part of a batch; out: its loss."""

from collections.abc import Sequence

import torch

from model.captioner import Captioner, Seen
from model.training.batches import Batch
from model.training.loss import caption_loss
from model.training.recipe import Recipe
from model.training.scheduled_sampling import sampling_probability, unroll


class Likelihood:
    """The objective of teacher forcing and of scheduled sampling."""

    figures: Sequence[str] = ("loss",)

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def shares(self, captioner: Captioner, seen: Seen, part: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """As Objective.shares has it: the loss alone."""
        return {"loss": self.loss(*self.unroll(captioner, seen, part, epoch), part)}

    def unroll(self, captioner: Captioner, seen: Seen, part: Batch, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, R, T, V) and attention (B, R, T, L) for the words of `part`."""
        probability = sampling_probability(self._recipe.scheduled_sampling, epoch, self._recipe.epochs)
        memory = captioner.memorise(seen)
        return unroll(captioner.decoder, memory, part.inputs, probability, part.seeds.tolist())

    def loss(self, logits: torch.Tensor, attention: torch.Tensor, part: Batch) -> torch.Tensor:
        """The share that what `unroll` returned has in the loss of the whole batch."""
        return caption_loss(
            logits,
            attention,
            part.targets,
            label_smoothing=self._recipe.label_smoothing,
            doubly_stochastic=self._recipe.doubly_stochastic,
            words=part.whole.words,
            captions=part.whole.captions,
        )
