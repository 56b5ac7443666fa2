"""Train a word detector from captions alone. Nobody says where anything is.

Multiple-instance learning with a noisy OR (Fang et al., 2015): at least one place of an image shows a word of its
captions, and no place shows any other word.
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from model.network.word_detector import WordDetector
from model.training.dataset import Sample
from model.training.visual_vocabulary import VisibleWords, said_of

log = logging.getLogger(__name__)

_BATCH = 64


class DetectionRecipe(BaseModel):
    """Settings of the detector's training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_images: int = Field(30, ge=1)  # a word that describes fewer images is not learnt
    epochs: int = Field(5, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    dropout: float = Field(0.3, ge=0, lt=1)


def train_detector(
    detector: WordDetector,
    extract_features: Callable[[torch.Tensor], torch.Tensor],
    samples: Sequence[Sample],
    visible: VisibleWords,
    known: frozenset[str],
    activations: npt.NDArray[np.float16],
    recipe: DetectionRecipe,
    seed: int,
) -> None:
    """Train `detector.learnt` in place.

    `activations` (views, images, C', R', R') are the encoder trunk's. `extract_features` turns some of them
    into ImageNet's grids (B, C, R, R).
    """
    device = detector.learnt.weight.device
    detector.learnt.requires_grad_(True)
    truth = torch.from_numpy(_truth(samples, visible, known))
    nn.init.normal_(detector.learnt.weight, std=0.01)
    nn.init.constant_(detector.learnt.bias, -7.0)  # of 81 places with 500 words each, few show any one word
    optimiser = torch.optim.AdamW(detector.learnt.parameters(), weight_decay=recipe.weight_decay, betas=(0.9, 0.999))
    chance, dropout = np.random.default_rng([seed, 1]), nn.Dropout(recipe.dropout)
    steps, step = recipe.epochs * max(1, len(samples) // _BATCH), 0
    for epoch in range(recipe.epochs):
        order, total = chance.permutation(len(samples)), 0.0
        for start in range(0, max(1, len(samples) - _BATCH + 1), _BATCH):
            images = np.sort(order[start : start + _BATCH])
            views = chance.integers(len(activations), size=len(images))
            trunk = torch.from_numpy(activations[views, images]).to(device).float()
            with torch.no_grad():
                grid = extract_features(trunk)
            loss = _loss(detector.learnt(dropout(grid.flatten(2).transpose(1, 2))), truth[images].to(device))
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * (1 - step / steps)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step, total = step + 1, total + loss.item()
        log.info("word detector, epoch %d: loss %.3f", epoch, total / max(1, len(samples) // _BATCH))
    detector.learnt.requires_grad_(False)


def _loss(scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Compute the cross-entropy of words in images from the logits (B, L, M) of places and from `truth` (B, M)."""
    nowhere = -nn.functional.softplus(scores.float()).sum(dim=1)  # log prod (1 - p)
    somewhere = (1 - nowhere.exp()).clamp(1e-6, 1 - 1e-6)
    return nn.functional.binary_cross_entropy(somewhere, truth, reduction="none").sum(dim=1).mean()


def _truth(samples: Sequence[Sample], visible: VisibleWords, known: frozenset[str]) -> npt.NDArray[np.float32]:
    """Compute how certain each word is in each image (images, M): the more captions name it, the more certain."""
    number = {word: place for place, word in enumerate(visible.words[: visible.learnt])}
    silent = np.ones((len(samples), visible.learnt), np.float32)  # the share of captions without the word
    for image, sample in enumerate(samples):
        for caption in sample.captions:
            for word in said_of(Sample(sample.name, b"", [caption]), known) & number.keys():
                silent[image, number[word]] -= 1 / len(sample.captions)
    return 1 - silent**2
