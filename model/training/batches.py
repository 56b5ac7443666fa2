"""Captions as padded token tensors, and the order in which training sees them.

In: captions and a seed; out: batches. The order is a pure function of (seed, epoch), so that a run that was killed
goes on with the very batch that was next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from model.training.dataset import Sample
from model.training.views import view_caption
from model.vocabulary import END, PAD, START, Vocabulary, split_words, style_token

_POOL = 32  # batches


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is in a batch: what the means of a loss are taken over."""

    images: int
    captions: int
    words: int  # <end> among them


@dataclass(frozen=True, slots=True)
class Batch:
    """Which images, in which view, and their captions; rows of an image that has fewer captions are all <pad>.

    It may be a part of a larger batch, which one optimiser step is made of: `whole` is the size of that one.
    """

    images: npt.NDArray[np.int64]  # B
    views: npt.NDArray[np.int64]  # B
    seeds: npt.NDArray[np.int64]  # B: where an image's own chance comes from in this epoch, whoever computes it
    inputs: torch.Tensor  # (B, R, T): <start> and the words
    targets: torch.Tensor  # (B, R, T): the words and <end>
    whole: Size

    def split(self, count: int) -> list["Batch"]:
        """`count` parts of nearly the same size, the last of which may be empty. They keep the common padding."""
        return [self._of(p) for p in np.array_split(np.arange(len(self.images)), count)]

    def by_captions(self) -> list["Batch"]:
        """Images that have one caption, and those that have more: nothing is then computed for rows that are all <pad>.

        Each without padding that it does not need.
        """
        single = (self.targets[:, 1:] == PAD).all(dim=2).all(dim=1).numpy()
        groups = [self._of(np.flatnonzero(those)) for those in (single, ~single) if those.any()]
        return [group._trimmed() for group in groups]

    def _of(self, chosen: npt.NDArray[np.int64]) -> "Batch":
        images, views, seeds = self.images[chosen], self.views[chosen], self.seeds[chosen]
        return Batch(images, views, seeds, self.inputs[chosen], self.targets[chosen], self.whole)

    def _trimmed(self) -> "Batch":
        real = self.targets != PAD
        rows, steps = int(real.any(dim=2).sum(dim=1).max()), int(real.any(dim=1).sum(dim=1).max())
        return replace(self, inputs=self.inputs[:, :rows, :steps], targets=self.targets[:, :rows, :steps])


def pad_captions(
    captions: list[list[list[int]]], most: int | None = None, first: Sequence[int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids by image and caption to inputs and targets (B, R, T) of teacher forcing.

    Of a longer caption only the first `most` are taught, and no <end> after them: nobody ended it there.
    """
    return pad_taught(
        [
            [[*tokens, END] if most is None or len(tokens) <= most else tokens[:most] for tokens in image]
            for image in captions
        ],
        first,
    )


def pad_taught(taught: list[list[list[int]]], first: Sequence[int] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from what is to be taught of each caption, its <end> among it.

    `first` is what the captions of each image begin with, where that is not <start>.
    """
    rows = max(len(image) for image in taught)
    steps = max(len(tokens) for image in taught for tokens in image)
    inputs = torch.full((len(taught), rows, steps), PAD)
    targets = torch.full((len(taught), rows, steps), PAD)
    for i, image in enumerate(taught):
        for r, tokens in enumerate(image):
            inputs[i, r, : len(tokens)] = torch.tensor([first[i] if first else START, *tokens[:-1]])
            targets[i, r, : len(tokens)] = torch.tensor(tokens)
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
                [_taught(vocabulary, view_caption(caption, side), max_words) for caption in sample.captions]
                for sample in samples
            ]
            for side in range(2)
        ]
        self._first = [vocabulary.token(style_token(sample.style)) or START for sample in samples]
        self._many = np.array([len(sample.captions) > 1 for sample in samples])
        self._longest = np.array([max(map(len, captions)) for captions in self._tokens[0]])
        self._count, self._views, self._size, self._seed = len(samples), views, size, seed

    def __len__(self) -> int:
        """Batches in an epoch; a last one that would be smaller than half is left out."""
        return max(1, (self._count + self._size // 2) // self._size)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the one numbered `first` on."""
        chance = np.random.default_rng([self._seed, number])
        order, views = chance.permutation(self._count), chance.integers(self._views, size=self._count)
        seeds = chance.integers(2**63 - 1, size=self._count)
        # Like with like, among the images of some batches, so that little is computed for padding.
        pools = np.arange(self._count) // (self._size * _POOL)
        order = order[np.lexsort((self._longest[order], self._many[order], pools))]
        last = len(self) - 1  # it may be smaller than the others, and stays where it is
        for place in [*chance.permutation(last).tolist(), last][first:]:
            chosen = slice(place * self._size, (place + 1) * self._size)
            yield self._batch(order[chosen], views[chosen], seeds[chosen])

    def _batch(
        self, images: npt.NDArray[np.int64], views: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]
    ) -> Batch:
        captions = [self._tokens[view % 2][image] for image, view in zip(images, views, strict=True)]
        inputs, targets = pad_taught(captions, [self._first[image] for image in images])
        size = Size(len(images), sum(map(len, captions)), int((targets != PAD).sum()))
        return Batch(images, views, seeds, inputs, targets, size)


def _taught(vocabulary: Vocabulary, caption: str, max_words: int) -> list[int]:
    """What is taught of a caption: its tokens, and <end> unless it was cut."""
    tokens = vocabulary.encode(caption, max_words)
    return tokens if len(split_words(caption)) > max_words else [*tokens, END]
