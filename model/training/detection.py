"""Train a word detector from captions and labels. Nobody says where anything is.

Multiple-instance learning with a noisy OR (Fang et al., 2015): at least one place of an image shows a word of its
captions, and no place shows any other word.
"""

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from model.runtime.captioner import Captioner
from model.text.vocabulary import Vocabulary
from model.training.dataset import Sample
from model.training.visual_vocabulary import VisibleWords, said_of

log = logging.getLogger(__name__)

_BATCH = 64
_WARMUP = 50  # steps


class DetectionRecipe(BaseModel):
    """Settings of the detector's training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_images: int = Field(30, ge=1)  # a word that describes fewer images is not learnt
    epochs: float = Field(5, gt=0)  # before the decoder is trained
    learning_rate: float = Field(2e-3, gt=0)
    # Of the encoder's tail, if the detector works on the trained one. They are trained on together with the decoder;
    # `weight` is the weight of an image's loss relative to that of a word of a caption.
    tail_learning_rate: float = Field(1e-4, ge=0)
    weight: float = Field(0.1, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    dropout: float = Field(0.3, ge=0, lt=1)


def train_detector(
    captioner: Captioner,
    image_words: "ImageWords",
    activations: npt.NDArray[np.float16],
    recipe: DetectionRecipe,
    seed: int,
    *,
    bfloat16: bool,
) -> None:
    """Train the learnt words of the detector and, if it works on it, the tail of the encoder, in place.

    `activations` (views, images, C', R', R') are the encoder trunk's.
    """
    detector, encoder = captioner.detector, captioner.encoder
    assert detector is not None
    device = detector.learnt.weight.device
    learns_later = detector.learnt.weight.requires_grad
    detector.learnt.requires_grad_(True)
    nn.init.normal_(detector.learnt.weight, std=0.01)
    nn.init.constant_(detector.learnt.bias, -7.0)  # of 81 places with 500 words each, few show any one word
    tail = [p for p in encoder.tail_parameters() if p.requires_grad] if encoder.general is None else []
    extract_grid = captioner.extract_grid if encoder.general is None else encoder.general_tail
    groups = [
        {"params": list(detector.learnt.parameters()), "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay},
        {"params": tail, "lr": recipe.tail_learning_rate, "weight_decay": 0.01},
    ]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98))
    rates = [group["lr"] for group in optimiser.param_groups]
    count = len(image_words)
    chance, dropout = np.random.default_rng([seed, 1]), nn.Dropout(recipe.dropout)
    batches = max(1, count // _BATCH)
    steps, total = max(1, round(recipe.epochs * batches)), 0.0
    for step in range(steps):
        index = step % batches
        if index == 0:
            order, total = chance.permutation(count), 0.0
        images = np.sort(order[index * _BATCH : (index + 1) * _BATCH])
        views = chance.integers(len(activations), size=len(images))
        trunk = torch.from_numpy(activations[views, images]).to(device).float()
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            with torch.set_grad_enabled(bool(tail)):
                grid = extract_grid(trunk)
            logits = detector.logits(dropout(grid))
        loss = detection_loss(logits, image_words.targets(images).to(device)) / len(images)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * min((step + 1) / _WARMUP, 1 - step / steps)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += loss.item()
        if index == batches - 1 or step == steps - 1:
            log.info("word detector, step %d of %d: loss %.3f", step + 1, steps, total / (index + 1))
    detector.learnt.requires_grad_(learns_later)


def detection_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the cross-entropy of words in images, summed, from the logits (B, L, M) of places and `targets` (B, M).

    A negative target is unknown and costs nothing.
    """
    nowhere = -nn.functional.softplus(logits.float()).sum(dim=1)  # log prod (1 - p)
    noisy_or = (1 - nowhere.exp()).clamp(1e-6, 1 - 1e-6)
    losses = nn.functional.binary_cross_entropy(noisy_or, targets.clamp_min(0), reduction="none")
    return losses.masked_fill(targets < 0, 0.0).sum()


class ImageWords:
    """How certain each learnt word is in each training image.

    The more captions name a word, the more certain it is. A label is certain. In an image that nobody labelled, labels
    are unknown.
    """

    def __init__(self, samples: Sequence[Sample], visible: VisibleWords, vocabulary: Vocabulary) -> None:
        known = frozenset(vocabulary.words)
        self._learnt, self._labels_from = visible.learnt, visible.learnt - len(visible.labels)
        number = {word: place for place, word in enumerate(visible.words[: self._labels_from])}
        label_number = {label: place for place, label in enumerate(visible.labels, self._labels_from)}
        self._labelled = [sample.labels is not None for sample in samples]
        self._certain: list[dict[int, float]] = []  # by image and word; 0 for words that are not in it
        for sample in samples:
            silent: dict[int, float] = {}  # the share of captions without the word
            for caption in sample.captions:
                for word in said_of(Sample(sample.name, b"", [caption]), known) & number.keys():
                    silent[number[word]] = silent.get(number[word], 1) - 1 / len(sample.captions)
            certain = {word: 1 - share**2 for word, share in silent.items()}
            self._certain.append(certain | {label_number[label]: 1.0 for label in sample.labels or ()})

    def __len__(self) -> int:
        """Count the images."""
        return len(self._certain)

    def targets(self, images: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return the targets (B, M) of images for `detection_loss`."""
        targets = torch.zeros(len(images), self._learnt)
        for row, image in enumerate(images.tolist()):
            certain = self._certain[image]
            targets[row, list(certain)] = torch.tensor(list(certain.values()))
            if not self._labelled[image]:
                targets[row, self._labels_from :] = -1
        return targets
