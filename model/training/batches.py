"""Captions as padded token tensors, and the order in which training sees them.

In: captions and a seed; out: batches. The order is a pure function of (seed, epoch), so that a run that was killed
goes on with the very batch that was next.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from model.training.dataset import Sample
from model.training.views import view_caption
from model.vocabulary import END, PAD, START, Vocabulary


@dataclass(frozen=True, slots=True)
class Batch:
    """Which images, in which view, and their captions; rows of an image that has fewer captions are all <pad>."""

    images: np.ndarray[tuple[int], np.dtype[np.int64]]  # B
    views: np.ndarray[tuple[int], np.dtype[np.int64]]  # B
    inputs: torch.Tensor  # (B, R, T): <start> and the words
    targets: torch.Tensor  # (B, R, T): the words and <end>


def pad_captions(captions: list[list[list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids by image and caption to inputs and targets (B, R, T) of teacher forcing."""
    rows = max(len(image) for image in captions)
    steps = 1 + max(len(tokens) for image in captions for tokens in image)
    inputs = torch.full((len(captions), rows, steps), PAD)
    targets = torch.full((len(captions), rows, steps), PAD)
    for i, image in enumerate(captions):
        for r, tokens in enumerate(image):
            inputs[i, r, : len(tokens) + 1] = torch.tensor([START, *tokens])
            targets[i, r, : len(tokens) + 1] = torch.tensor([*tokens, END])
    return inputs, targets


class Batches:
    """The batches of each epoch."""

    def __init__(
        self,
        samples: list[Sample],
        vocabulary: Vocabulary,
        *,
        views: int,
        size: int,
        max_words: int,
        seed: int,
    ) -> None:
        # Captions differ between a view and its mirror image only, so there are two versions of each.
        self._tokens = [
            [
                [vocabulary.encode(view_caption(caption, side), max_words) for caption in sample.captions]
                for sample in samples
            ]
            for side in range(2)
        ]
        self._count, self._views, self._size, self._seed = len(samples), views, size, seed

    def __len__(self) -> int:
        """Batches in an epoch; a last one that would be smaller than half is left out."""
        return max(1, (self._count + self._size // 2) // self._size)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the one numbered `first` on."""
        chance = np.random.default_rng([self._seed, number])
        order, views = chance.permutation(self._count), chance.integers(self._views, size=self._count)
        for start in range(first * self._size, len(self) * self._size, self._size):
            images, chosen = order[start : start + self._size], views[start : start + self._size]
            captions = [self._tokens[view % 2][image] for image, view in zip(images, chosen, strict=True)]
            yield Batch(images, chosen, *pad_captions(captions))
