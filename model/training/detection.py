"""Teaches a word detector which words are seen where, from captions alone: nobody says where anything is.

Multiple-instance learning with a noisy OR (Fang et al., 2015): a caption's word is seen in at least one place of the
picture, other words in none. In: annotation grids of the training images and their captions; out: a trained detector.
"""

import logging
from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from model.captioner import Captioner
from model.training.dataset import Sample
from model.training.visible import VisibleWords, said_of
from model.word_detector import WordDetector

log = logging.getLogger(__name__)

_BATCH = 64


class DetectionRecipe(BaseModel):
    """Settings of the detector's training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_images: int = Field(30, ge=1)  # a word that describes fewer is not learnt
    epochs: float = Field(5, gt=0)
    learning_rate: float = Field(2e-3, gt=0)
    tail_learning_rate: float = Field(1e-4, ge=0)  # where the detector is a head on the tail that is trained
    weight: float = Field(0.1, ge=0)  # of an image's loss against that of a word of a caption, from then on
    weight_decay: float = Field(0.05, ge=0)
    dropout: float = Field(0.3, ge=0, lt=1)


def train_detector(
    captioner: Captioner,
    detector: WordDetector,
    samples: Sequence[Sample],
    visible: VisibleWords,
    activations: npt.NDArray[np.float16],
    recipe: DetectionRecipe,
    seed: int,
    *,
    bfloat16: bool = False,
) -> None:
    """Train `detector.learnt` in place, and what of the encoder's tail is to be trained before it.

    `activations` (views, images, C', R', R') are what the encoder's trunk said.
    """
    device = detector.learnt.weight.device
    learns_later = detector.learnt.weight.requires_grad
    detector.learnt.requires_grad_(True)
    truth = Truth(samples, visible, frozenset(captioner.vocabulary.words))
    nn.init.normal_(detector.learnt.weight, std=0.01)
    nn.init.constant_(detector.learnt.bias, -7.0)  # of 81 places with 500 words each, few show any one of them
    tail = [parameter for parameter in captioner.encoder.tail_parameters() if parameter.requires_grad]
    see = captioner.encoder.general_tail if captioner.encoder.general is not None else captioner.see_grid
    groups = [
        {"params": list(detector.learnt.parameters()), "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay},
        {"params": tail, "lr": recipe.tail_learning_rate, "weight_decay": 0.01},
    ]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98))
    rates = [group["lr"] for group in optimiser.param_groups]
    chance, dropout = np.random.default_rng([seed, 1]), nn.Dropout(recipe.dropout)
    steps, step = round(recipe.epochs * max(1, len(samples) // _BATCH)), 0
    for epoch in range(ceil(recipe.epochs)):
        order, total = chance.permutation(len(samples)), 0.0
        for start in range(0, max(1, len(samples) - _BATCH + 1), _BATCH):
            if step == steps:
                break
            images = np.sort(order[start : start + _BATCH])
            views = chance.integers(len(activations), size=len(images))
            trunk = torch.from_numpy(activations[views, images]).to(device).float()
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16), torch.set_grad_enabled(bool(tail)):
                grid = see(trunk)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss = detection_loss(detector.logits(dropout(grid)), truth.of(images).to(device)) / len(images)
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * min((step + 1) / 50, 1 - step / steps)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step, total = step + 1, total + loss.item()
            if step % 50 == 0:
                log.info("words, step %d of %d: loss %.3f", step, steps, loss.item())
        log.info("words, epoch %d: loss %.3f", epoch, total * _BATCH / max(_BATCH, len(samples)))
    detector.learnt.requires_grad_(learns_later)


def detection_loss(scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of words being seen in images, summed, from logits (B, L, M) of their places and `truth` (B, M).

    Where the truth is negative it is not known, and costs nothing.
    """
    nowhere = -nn.functional.softplus(scores.float()).sum(dim=1)  # log prod (1 - p)
    anywhere = (1 - nowhere.exp()).clamp(1e-6, 1 - 1e-6)
    losses = nn.functional.binary_cross_entropy(anywhere, truth.clamp_min(0), reduction="none")
    return losses.masked_fill(truth < 0, 0.0).sum()


class Truth:
    """How surely each word is in each image: the more people named it, the surer. Labels are sure."""

    def __init__(self, samples: Sequence[Sample], visible: VisibleWords, known: frozenset[str]) -> None:
        self._learnt, labels = visible.learnt, len(visible.labels)
        number = {word: place for place, word in enumerate(visible.words[: visible.learnt - labels])}
        label_number = {label: visible.learnt - labels + place for place, label in enumerate(visible.labels)}
        self._unknown = slice(visible.learnt - labels, visible.learnt)
        self._unlabelled = [sample.labels is None for sample in samples]
        self._seen: list[tuple[list[int], list[float]]] = []
        for sample in samples:
            silent: dict[int, float] = {}  # the share of people who did not name it
            for caption in sample.captions:
                for word in said_of(Sample(sample.name, b"", [caption]), known) & number.keys():
                    silent[number[word]] = silent.get(number[word], 1) - 1 / len(sample.captions)
            surely = {place: 1 - share**2 for place, share in silent.items()}
            surely |= {label_number[label]: 1.0 for label in sample.labels or ()}
            self._seen.append((list(surely), list(surely.values())))

    def of(self, images: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
        """(B, M); -1 for what nobody looked for."""
        truth = torch.zeros(len(images), self._learnt)
        for row, image in enumerate(images):
            places, values = self._seen[image]
            truth[row, places] = torch.tensor(values)
            if self._unlabelled[image]:
                truth[row, self._unknown] = -1.0
        return truth
