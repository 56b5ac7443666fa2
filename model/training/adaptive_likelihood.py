"""Maximum likelihood for the decoder with adaptive attention: of captions of pictures, and of text alone.

In: a part of a batch; out: its loss, with the guidance of where to look.
"""

from collections.abc import Sequence

import torch
from torch import nn

from model.adaptive import AdaptiveDecoder, Sight
from model.adaptive_memory import AdaptiveMemory
from model.captioner import Captioner, Seen
from model.training.batches import Batch
from model.training.detection import Truth, detection_loss
from model.training.guidance import function_tokens, guidance_loss
from model.training.recipe import Recipe
from model.training.text import Imagination
from model.vocabulary import PAD, Vocabulary


class AdaptiveLikelihood:
    """The objective. Without an `imagination`, of captions of pictures alone."""

    figures: Sequence[str] = ("loss", "guidance", "text_loss", "detection")

    def __init__(
        self, recipe: Recipe, vocabulary: Vocabulary, imagination: Imagination | None, truth: Truth | None
    ) -> None:
        """With the `truth` of what is in the training images the detector, a head on the tail, learns, too."""
        self._recipe, self._imagination, self._truth = recipe, imagination, truth
        self._function = function_tokens(vocabulary)

    def shares(self, captioner: Captioner, seen: Seen, part: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """As Objective.shares has it: the loss, and of it the guidance and the loss of the text."""
        decoder = captioner.decoder
        assert isinstance(decoder, AdaptiveDecoder)
        assert isinstance(seen, Sight)
        recipe, whole, device = self._recipe, part.whole, seen.grid.device
        chance = torch.from_numpy(part.seeds % 1000 / 1000 >= recipe.unseen).to(device)
        likelihood, guidance = self._losses(decoder, decoder.memorise(seen, chance), part.inputs, part.targets)
        loss = (likelihood + recipe.guidance * guidance) / whole.words
        zero = torch.zeros((), device=device)
        figures = {"guidance": guidance.detach() / whole.words, "text_loss": zero, "detection": zero}
        if self._truth is not None and seen.logits is not None and seen.logits.requires_grad:
            detection = detection_loss(seen.logits, self._truth.of(part.images).to(device)) / whole.images
            loss = loss + recipe.detection.weight * detection
            figures["detection"] = detection.detach()
        if self._imagination is not None:
            text = self._imagination.batch([recipe.seed, epoch, *part.seeds.tolist()[:1]])
            inputs, targets = text.inputs.to(device), text.targets.to(device)
            likelihood, guidance = self._losses(decoder, decoder.imagine(text.words.to(device)), inputs, targets)
            # As large a share of the text's loss as this part has of the batch.
            share = len(part.images) / whole.images / (targets != PAD).sum()
            assert recipe.text is not None
            loss = loss + recipe.text.weight * share * (likelihood + recipe.guidance * guidance)
            figures["text_loss"] = share * likelihood.detach()
        return {"loss": loss, **figures}

    def _losses(
        self, decoder: AdaptiveDecoder, memory: AdaptiveMemory, inputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy and guidance, both summed over all words."""
        glances = decoder.unroll(memory, inputs)
        real = targets != PAD  # what padding would say is not computed
        cross_entropy = nn.functional.cross_entropy(
            decoder.read(glances, memory, real.flatten(1)),
            targets[real],
            label_smoothing=self._recipe.label_smoothing,
            reduction="sum",
        )
        guidance = guidance_loss(glances, memory, targets, self._function.to(targets.device))
        return cross_entropy, guidance
