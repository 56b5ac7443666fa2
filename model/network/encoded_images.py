"""Encoded images: the annotations that every step attends to, their attention keys, and detected words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import torch
from torch.nn import functional

EPSILON = 0.01  # keeps the logarithm of evidence finite


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """A batch of encoded images. It is computed once, and all rows of an image share it."""

    # The fields with a part for each image.
    per_image: ClassVar[tuple[str, ...]] = ("annotations", "keys")

    annotations: torch.Tensor  # (B, L, D)
    keys: torch.Tensor  # (B, L, A); A = 0 where there is no attention
    rows: int  # of the annotation grid: L = rows * cols, row by row
    cols: int

    @property
    def images(self) -> int:
        """The number of images: B."""
        return self.annotations.shape[0]

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The fields `per_image`."""
        return tuple(getattr(self, name) for name in self.per_image)

    def with_tensors(self, tensors: Iterable[torch.Tensor]) -> Self:
        """Make the same kind of object for other images from their `tensors`."""
        fields: dict[str, Any] = dict(zip(self.per_image, tensors, strict=True))
        return replace(self, **fields)

    def select(self, index: Sequence[int] | torch.Tensor) -> Self:
        """Select some of the images, in the order of `index`."""
        chosen = torch.as_tensor(index, dtype=torch.long, device=self.annotations.device)
        return self.with_tensors(tensor[chosen] for tensor in self.tensors)

    def attribute(self, image: int, token: int, weights: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Attribute a written `token` to the places of an image: (L,), with the same sum as `weights`.

        `weights` (L,) is the attention of the step that wrote the token. Here attention is the attribution.
        """
        return weights


@dataclass(frozen=True, slots=True)
class AdaptiveEncodedImages(EncodedImages):
    """Images encoded for the decoder with adaptive attention.

    Annotations and keys belong to the fine grid, detected words to the coarse one.
    """

    per_image: ClassVar[tuple[str, ...]] = (*EncodedImages.per_image, "words", "evidence")

    words: torch.Tensor  # (B, l, N): the probability that a place shows a word
    evidence: torch.Tensor  # (B, N): for each word anywhere in the image
    coarse: torch.Tensor | None  # (L, l): enlarges the coarse grid to the fine one; None: L = l
    seen_as: torch.Tensor  # (V,): the detected word that each token is a form of, N for none

    def attribute(self, image: int, token: int, weights: torch.Tensor) -> torch.Tensor:
        """See EncodedImages. For a word that the detector knows, attention is multiplied by the evidence at each place.

        Evidence makes a word more probable by the sum, over places, of attention times evidence (AdaptiveDecoder.seen).
        The result is each place's share in that sum. A place of the fine grid sees far more of the image than its cell,
        so its share is averaged with its neighbours'.
        """
        shown = self.shown(image, token)
        if shown is None:
            return weights
        given = weights * shown
        if self.coarse is not None:
            given = smooth(given.view(self.rows, self.cols)).flatten()
        return given * (weights.sum() / given.sum())

    def shown(self, image: int, token: int) -> torch.Tensor | None:
        """Return the evidence at each place for the word of `token`: (L,). None if the detector lacks it."""
        word = int(self.seen_as[token])
        if word == self.words.shape[2]:
            return None
        shown = self.words[image, :, word]
        return (shown if self.coarse is None else self.coarse @ shown) + EPSILON


@lru_cache(maxsize=8)
def bilinear_matrix(coarse: int, fine: int, device: torch.device) -> torch.Tensor:
    """Make the matrix (fine * fine, coarse * coarse) that enlarges a grid bilinearly.

    The places of a convolution with stride 2 coincide with places of its input, so the corners of both grids coincide.
    """
    with torch.inference_mode(False):  # training can use the cached matrix, too
        one_each = torch.eye(coarse * coarse, device=device).view(-1, 1, coarse, coarse)
        larger = functional.interpolate(one_each, size=(fine, fine), mode="bilinear", align_corners=True)
        return larger.flatten(1).t().contiguous()


def smooth(grid: torch.Tensor) -> torch.Tensor:
    """Average each place of a grid (rows, cols) with its eight neighbours, near ones more. The sum stays the same."""
    rows, cols = grid.shape
    return _neighbourhood(rows, grid.device) @ grid @ _neighbourhood(cols, grid.device)


@lru_cache(maxsize=8)
def _neighbourhood(places: int, device: torch.device) -> torch.Tensor:
    """Make the matrix (places, places) that averages a row of places: half of each, and a quarter of each neighbour.

    A place at an end replaces its own missing neighbour, so the matrix is symmetric and keeps the sum.
    """
    with torch.inference_mode(False):
        kernel = torch.tensor([0.25, 0.5, 0.25], device=device).view(1, 1, 3)
        one_each = torch.eye(places, device=device).unsqueeze(1)
        return functional.conv1d(functional.pad(one_each, (1, 1), mode="replicate"), kernel).squeeze(1)
