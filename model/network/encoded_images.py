"""What a decoder knows of a batch of images: the annotations that every word looks at anew, and what goes with them.

Plain tensors. It must not know how images are encoded, or how words are chosen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import torch
from torch.nn import functional

EPSILON = 0.01  # keeps the logarithm of how much of a word is seen away from that of zero


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """What is known of a batch of images, computed once and shared by all rows of each image."""

    # The fields that have a part for each image.
    per_image: ClassVar[tuple[str, ...]] = ("annotations", "keys")

    annotations: torch.Tensor  # (B, L, D)
    keys: torch.Tensor  # (B, L, A); A = 0 where there is no attention
    rows: int  # of the annotation grid: L = rows * cols, row by row
    cols: int

    @property
    def images(self) -> int:
        """How many images these are: B."""
        return self.annotations.shape[0]

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What there is of each image: the fields `per_image`."""
        return tuple(getattr(self, name) for name in self.per_image)

    def with_tensors(self, tensors: Iterable[torch.Tensor]) -> Self:
        """The same of other images, of which these are the `tensors`."""
        fields: dict[str, Any] = dict(zip(self.per_image, tensors, strict=True))
        return replace(self, **fields)

    def select(self, index: Sequence[int] | torch.Tensor) -> Self:
        """What is known of some of the images, in the order of `index`."""
        chosen = torch.as_tensor(index, dtype=torch.long, device=self.annotations.device)
        return self.with_tensors(tensor[chosen] for tensor in self.tensors)

    def attribute(self, image: int, token: int, weights: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """How much each place did for a `token` that was said of an image: (L,), of as large a sum as `weights`.

        `weights` (L,) is the attention of the step that said it; to be looked at is all that a place can do here.
        """
        return weights


@dataclass(frozen=True, slots=True)
class AdaptiveEncodedImages(EncodedImages):
    """What is known of a batch of images. Annotations and keys are of the fine grid, words of the coarse one."""

    per_image: ClassVar[tuple[str, ...]] = (*EncodedImages.per_image, "words", "evidence")

    words: torch.Tensor  # (B, l, N): which words each place shows
    evidence: torch.Tensor  # (B, N): for a word being shown anywhere
    coarse: torch.Tensor | None  # (L, l): from places of the fine grid to those of the coarse one; None: L = l
    seen_as: torch.Tensor  # (V,): which of the N words each token is a form of, N for none

    def attribute(self, image: int, token: int, weights: torch.Tensor) -> torch.Tensor:
        """See Memory. Here a place is looked at and, if the detector knows the word, shows more or less of it.

        What is seen makes a word more probable by the sum, over places, of attention times how much of the word each
        shows (AdaptiveDecoder.seen); this is the share of each place in that sum. A place of the fine grid sees far
        more of the picture than its cell, so its share is a mean with its neighbours'.
        """
        shown = self.shown(image, token)
        if shown is None:
            return weights
        given = weights * shown
        if self.coarse is not None:
            given = smooth(given.view(self.rows, self.cols)).flatten()
        return given * (weights.sum() / given.sum())

    def shown(self, image: int, token: int) -> torch.Tensor | None:
        """How much of the word that `token` is a form of each place of an image shows: (L,). None: nobody can say."""
        word = int(self.seen_as[token])
        if word == self.words.shape[2]:
            return None
        shown = self.words[image, :, word]
        return (shown if self.coarse is None else self.coarse @ shown) + EPSILON


@lru_cache(maxsize=8)
def bilinear_matrix(coarse: int, fine: int, device: torch.device) -> torch.Tensor:
    """The matrix (fine * fine, coarse * coarse) that enlarges a grid, bilinearly.

    Each place of a convolution with stride 2 lies on a place of its input, so the corners of both grids do, too.
    """
    with torch.inference_mode(False):  # the next who wants it may be training
        one_each = torch.eye(coarse * coarse, device=device).view(-1, 1, coarse, coarse)
        larger = functional.interpolate(one_each, size=(fine, fine), mode="bilinear", align_corners=True)
        return larger.flatten(1).t().contiguous()


def smooth(grid: torch.Tensor) -> torch.Tensor:
    """Each place of a grid (rows, cols) a mean of itself and its eight neighbours, near ones more; their sum stays."""
    rows, cols = grid.shape
    return _neighbourhood(rows, grid.device) @ grid @ _neighbourhood(cols, grid.device)


@lru_cache(maxsize=8)
def _neighbourhood(places: int, device: torch.device) -> torch.Tensor:
    """The matrix (places, places) that makes of each of a row of places half of itself and a quarter of each neighbour.

    It is symmetric: at both ends a place is its own missing neighbour, so that nothing is lost.
    """
    with torch.inference_mode(False):
        kernel = torch.tensor([0.25, 0.5, 0.25], device=device).view(1, 1, 3)
        one_each = torch.eye(places, device=device).unsqueeze(1)
        return functional.conv1d(functional.pad(one_each, (1, 1), mode="replicate"), kernel).squeeze(1)
