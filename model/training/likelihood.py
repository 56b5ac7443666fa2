"""Training objectives of maximum likelihood, and the interface of all objectives.

`Likelihood` is for the decoders of the family; its loss is caption_loss. `AdaptiveLikelihood` is for the decoder with
adaptive attention. It also learns from text without images (text.py), and guides attention (guidance_loss).
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from model.network.adaptive import AdaptiveDecoder, Features, StepOutput
from model.network.encoded_images import AdaptiveEncodedImages
from model.runtime.captioner import Captioner, EncoderOutput
from model.text.function_words import FUNCTION_WORDS
from model.text.vocabulary import END, PAD, Vocabulary
from model.training.batches import Batch
from model.training.detection import ImageWords, detection_loss
from model.training.recipe import Recipe
from model.training.text import Imagination

_SEEN = 0.2  # a word guides attention only if some place shows it with this probability
_FUNCTION_WEIGHT = 0.3  # function words are so many that they count for less


class Objective(Protocol):
    """Computes the loss of a part of a batch."""

    figures: Sequence[str]  # the names that `shares` returns

    def shares(self, captioner: Captioner, seen: EncoderOutput, part: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """Compute the share of the images of `part` in each figure of the whole batch.

        "loss" is minimised; the others are reported. Each is a scalar. The shares of all parts of a batch add up to
        its figure. `seen` is what the encoder computed for the images.
        """
        ...


class Likelihood:
    """Maximum likelihood with teacher forcing."""

    figures: Sequence[str] = ("loss",)

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def shares(
        self,
        captioner: Captioner,
        seen: EncoderOutput,
        part: Batch,
        epoch: int,  # noqa: ARG002
    ) -> dict[str, torch.Tensor]:
        """See Objective."""
        logits, attention = captioner.decoder(
            captioner.encode_features(seen), part.inputs
        )  # (B, R, T, V), (B, R, T, L)
        loss = caption_loss(
            logits,
            attention,
            part.targets,
            label_smoothing=self._recipe.label_smoothing,
            doubly_stochastic=self._recipe.doubly_stochastic,
            words=part.whole.words,
            captions=part.whole.captions,
        )
        return {"loss": loss}


def caption_loss(
    logits: torch.Tensor,
    attention: torch.Tensor,
    targets: torch.Tensor,
    *,
    label_smoothing: float,
    doubly_stochastic: float,
    words: int | None = None,
    captions: int | None = None,
) -> torch.Tensor:
    """Cross-entropy per word, plus the doubly stochastic term of Show, Attend and Tell (Xu et al., 2015, eq. 14).

    logits (B, R, T, V); attention (B, R, T, L); targets (B, R, T), where <pad> costs nothing. The second term asks
    that every place of the grid gets its share of attention over a sentence, T/L.

    `words` and `captions` replace the counts that the means are taken over. With those of a whole batch, the losses of
    its parts add up to the loss of the batch.
    """
    real = targets != PAD
    cross_entropy = nn.functional.cross_entropy(
        logits.flatten(0, 2), targets.flatten(), ignore_index=PAD, label_smoothing=label_smoothing, reduction="sum"
    )
    loss = cross_entropy / (words or real.sum())
    if doubly_stochastic:
        written = real.any(dim=2)  # images with fewer captions than others have empty rows
        unevenness = _unevenness(attention, real)[written].sum() / (captions or written.sum())
        loss = loss + doubly_stochastic * unevenness
    return loss


def _unevenness(attention: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Measure how far (B, R) the attention that places get over a sentence is from an even split, T/L each."""
    received = (attention * real.unsqueeze(3)).sum(dim=2)  # (B, R, L)
    length = real.sum(dim=2, keepdim=True)  # (B, R, 1)
    # As multiples of the even split, so that the weight means the same for every grid and sentence length.
    share = received * attention.shape[3] / length.clamp(min=1)
    return ((share - 1) ** 2).mean(dim=2)


class AdaptiveLikelihood:
    """Maximum likelihood for the decoder with adaptive attention.

    With `imagination`, text is learnt from, too. With `image_words`, those of the training images, the word detector is
    trained together with the tail that it works on.
    """

    figures: Sequence[str] = ("loss", "guidance", "text_loss", "detection")

    def __init__(
        self,
        recipe: Recipe,
        vocabulary: Vocabulary,
        imagination: Imagination | None,
        image_words: ImageWords | None = None,
    ) -> None:
        self._recipe, self._imagination, self._image_words = recipe, imagination, image_words
        self._function = function_tokens(vocabulary)

    def shares(self, captioner: Captioner, seen: EncoderOutput, part: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """See Objective. The loss includes the guidance and the losses of the text and of the detector."""
        decoder = captioner.decoder
        assert isinstance(decoder, AdaptiveDecoder)
        assert isinstance(seen, Features)
        recipe, whole, device = self._recipe, part.whole, seen.grid.device
        shown = torch.from_numpy(part.seeds % 1000 / 1000 >= recipe.unseen).to(device)
        likelihood, guidance = self._losses(decoder, decoder.encode(seen, shown), part.inputs, part.targets)
        loss = (likelihood + recipe.guidance * guidance) / whole.words
        zero = torch.zeros((), device=device)
        figures = {"guidance": guidance.detach() / whole.words, "text_loss": zero, "detection": zero}
        if self._image_words is not None and seen.logits is not None:
            detection = detection_loss(seen.logits, self._image_words.targets(part.images).to(device)) / whole.images
            loss = loss + recipe.detection.weight * detection
            figures["detection"] = detection.detach()
        if self._imagination is not None:
            text = self._imagination.batch([recipe.seed, epoch, *part.seeds.tolist()[:1]])
            inputs, targets = text.inputs.to(device), text.targets.to(device)
            likelihood, guidance = self._losses(decoder, decoder.encode_words(text.words.to(device)), inputs, targets)
            # The part's share of the text's loss is its share of the batch.
            share = len(part.images) / whole.images / (targets != PAD).sum()
            assert recipe.text is not None
            loss = loss + recipe.text.weight * share * (likelihood + recipe.guidance * guidance)
            figures["text_loss"] = share * likelihood.detach()
        return {"loss": loss, **figures}

    def _losses(
        self, decoder: AdaptiveDecoder, encoded: AdaptiveEncodedImages, inputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute cross-entropy and guidance, both summed over all words."""
        outputs = decoder.teacher_force(encoded, inputs)
        real = targets != PAD  # logits of padding are not computed
        cross_entropy = nn.functional.cross_entropy(
            decoder.score_words(outputs, encoded, real.flatten(1)),
            targets[real],
            label_smoothing=self._recipe.label_smoothing,
            reduction="sum",
        )
        guidance = guidance_loss(outputs, encoded, targets, self._function.to(targets.device))
        return cross_entropy, guidance


def function_tokens(vocabulary: Vocabulary) -> torch.Tensor:
    """Return which tokens (V,) are function words. <end> is one."""
    return torch.tensor([token == END or word in FUNCTION_WORDS for token, word in enumerate(vocabulary.words)])


def guidance_loss(
    outputs: StepOutput, encoded: AdaptiveEncodedImages, targets: torch.Tensor, function: torch.Tensor
) -> torch.Tensor:
    """Penalise attention that misses the places where the word detector sees the word.

    Attention correctness as a loss (Liu, Mao, Sha and Yuille, 2017), without boxes: the detector says where to look.
    Function words, which no place shows, should attend to the sentinel. The result is a cross-entropy, summed over all
    `targets` (B, R, T): the places are drawn from where the word is seen, and `outputs`, of B x (R * T) rows, hold the
    attention that predicts them.
    """
    attention = outputs.weights.clamp_min(1e-8).log().view(*targets.shape, -1)  # (B, R, T, L)
    words = encoded.words.shape[2]
    image, row, step = (encoded.seen_as[targets] < words).nonzero(as_tuple=True)
    shown = encoded.words[image, :, encoded.seen_as[targets[image, row, step]]]  # (n, l)
    clear = shown.amax(dim=1) > _SEEN
    image, row, step, shown = image[clear], row[clear], step[clear], shown[clear] ** 2
    places = shown if encoded.upsample is None else shown @ encoded.upsample.t()  # (n, L)
    places = places / places.sum(dim=1, keepdim=True)
    looking = -(places * attention[image, row, step]).sum()
    unseen = function[targets] & (targets != PAD)
    not_looking = -outputs.sentinel.clamp_min(1e-8).log().view(targets.shape)[unseen].sum()
    return looking + _FUNCTION_WEIGHT * not_looking
