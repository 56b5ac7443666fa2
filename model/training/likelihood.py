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
        recipe = self._recipe
        probability = sampling_probability(recipe.scheduled_sampling, epoch, recipe.epochs)
        memory = captioner.memorise(seen)
        logits, attention = unroll(captioner.decoder, memory, part.inputs, probability, part.seeds.tolist())
        loss = caption_loss(
            logits,
            attention,
            part.targets,
            label_smoothing=recipe.label_smoothing,
            doubly_stochastic=recipe.doubly_stochastic,
            words=part.whole.words,
            captions=part.whole.captions,
        )
        return {"loss": loss}
