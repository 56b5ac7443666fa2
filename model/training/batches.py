"""Training batches: padded captions, the order of images, and loading in a background thread.

The order depends on (seed, epoch) alone, so a run that was killed resumes with the very batch that was next.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from model.text.vocabulary import END, PAD, START, Vocabulary, split_words, style_token
from model.training.dataset import Sample
from model.training.processes import Processes
from model.training.views import view_caption

ItemT = TypeVar("ItemT")

_POOL = 32  # batches that are made of similar images together


@dataclass(frozen=True, slots=True)
class Size:
    """The counts that the means of a loss are taken over."""

    images: int
    captions: int
    words: int  # including <end>


@dataclass(frozen=True, slots=True)
class Batch:
    """Images, their views and their captions. Images with fewer captions than others have rows of <pad>.

    A batch can be part of a larger one that makes up one optimiser step: `whole` is the size of the larger one.
    """

    images: npt.NDArray[np.int64]  # B
    views: npt.NDArray[np.int64]  # B
    seeds: npt.NDArray[np.int64]  # B: of each image's random numbers in this epoch, whichever process computes it
    inputs: torch.Tensor  # (B, R, T): <start> or the token of the style, and the words
    targets: torch.Tensor  # (B, R, T): the words and <end>
    whole: Size

    def split(self, count: int) -> list["Batch"]:
        """Split into `count` parts of nearly equal size. They keep the common padding; the last ones can be empty."""
        return [
            Batch(self.images[p], self.views[p], self.seeds[p], self.inputs[p], self.targets[p], self.whole)
            for p in np.array_split(np.arange(len(self.images)), count)
        ]


def pad_captions(
    captions: list[list[list[int]]], most: int | None = None, first: Sequence[int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids, by image and caption, to inputs and targets (B, R, T) of teacher forcing.

    A caption of more than `most` tokens is cut and gets no <end>, because its author did not end it there. `first` is
    the token that starts the captions of each image (default: <start>).
    """
    return pad_taught(
        [
            [[*tokens, END] if most is None or len(tokens) <= most else tokens[:most] for tokens in image]
            for image in captions
        ],
        first,
    )


def pad_taught(taught: list[list[list[int]]], first: Sequence[int] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad the targets of each caption, which include its <end>, like pad_captions."""
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
        # A view is mirrored or not, so each caption has two versions.
        self._tokens = [
            [
                [_taught(vocabulary, view_caption(caption, side), max_words) for caption in sample.captions]
                for sample in samples
            ]
            for side in range(2)
        ]
        self._first = [vocabulary.token(style_token(sample.style)) or START for sample in samples]
        self._several = np.array([len(sample.captions) > 1 for sample in samples])
        self._longest = np.array([max(map(len, captions)) for captions in self._tokens[0]])
        self._count, self._views, self._size, self._seed = len(samples), views, size, seed

    def __len__(self) -> int:
        """Count the batches of an epoch. A last batch of less than half the size is left out."""
        return max(1, (self._count + self._size // 2) // self._size)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch `number`, from the one numbered `first` on."""
        chance = np.random.default_rng([self._seed, number])
        order, views = chance.permutation(self._count), chance.integers(self._views, size=self._count)
        seeds = chance.integers(2**63 - 1, size=self._count)
        # Batches of images with similar captions need little padding. Their order is random.
        pools = np.arange(self._count) // (self._size * _POOL)
        order = order[np.lexsort((self._longest[order], self._several[order], pools))]
        last = len(self) - 1  # it can be smaller than the others, so it stays the last
        for index in [*chance.permutation(last).tolist(), last][first:]:
            chosen = slice(index * self._size, (index + 1) * self._size)
            yield self._batch(order[chosen], views[chosen], seeds[chosen])

    def _batch(
        self, images: npt.NDArray[np.int64], views: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]
    ) -> Batch:
        captions = [self._tokens[view % 2][image] for image, view in zip(images, views, strict=True)]
        inputs, targets = pad_taught(captions, [self._first[image] for image in images])
        size = Size(len(images), sum(map(len, captions)), int((targets != PAD).sum()))
        return Batch(images, views, seeds, inputs, targets, size)


def _taught(vocabulary: Vocabulary, caption: str, max_words: int) -> list[int]:
    """Return the targets of a caption: its tokens, and <end> unless it was cut."""
    tokens = vocabulary.encode(caption, max_words)
    return tokens if len(split_words(caption)) > max_words else [*tokens, END]


@dataclass(frozen=True, slots=True)
class Part:
    """The share of a batch that is computed at once, and the trunk's activations (B, C', R', R'), float16."""

    batch: Batch
    trunk: torch.Tensor

    def to(self, device: torch.device) -> "Part":
        """Copy the tensors to `device`."""
        inputs, targets, trunk = (
            tensor.to(device, non_blocking=True) for tensor in (self.batch.inputs, self.batch.targets, self.trunk)
        )
        return Part(replace(self.batch, inputs=inputs, targets=targets), trunk)

    def pinned(self) -> "Part":
        """Copy the tensors to page-locked memory, from which a GPU copies while it computes."""
        batch = replace(self.batch, inputs=self.batch.inputs.pin_memory(), targets=self.batch.targets.pin_memory())
        return Part(batch, self.trunk.pin_memory())


def load_parts(
    batches: Iterator[Batch],
    activations: npt.NDArray[np.float16],
    processes: Processes,
    *,
    accumulate: int,
) -> Iterator[list[Part]]:
    """Yield, for each batch, the parts that this process computes one after the other: up to `accumulate`.

    `activations` (views, images, C', R', R') are read from disk as needed.
    """
    for batch in batches:
        mine = batch.split(processes.count * accumulate)[processes.rank * accumulate :][:accumulate]
        parts = [
            Part(part, torch.from_numpy(activations[part.views, part.images])) for part in mine if len(part.images)
        ]
        yield [part.pinned() for part in parts] if processes.device.type == "cuda" else parts


class Prefetch(Generic[ItemT]):
    """Iterates over `items` in a background thread that stays up to `ahead` items ahead.

    One thread fetches one item at a time, so `items` need not be thread-safe. Its exceptions are raised here.
    """

    def __init__(self, items: Iterator[ItemT], ahead: int = 2) -> None:
        self._items, self._ahead = items, ahead
        self.waited = 0.0  # seconds that the consumer spent waiting for items

    def __iter__(self) -> Iterator[ItemT]:
        end = object()
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
            coming = deque(thread.submit(next, self._items, end) for _ in range(self._ahead))
            while True:
                began = time.perf_counter()
                item = coming.popleft().result()
                self.waited += time.perf_counter() - began
                if item is end:
                    return
                coming.append(thread.submit(next, self._items, end))
                yield item  # type: ignore[misc]
