"""The encoded images of a batch: annotations, attention keys, and what the word detector found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import torch
from torch.nn import functional

EPSILON = 0.01  # added to the probability of a word before its logarithm is taken


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """The encoding of a batch of images. It is computed once and shared by all rows of an image."""

    # The fields with one entry per image.
    per_image: ClassVar[tuple[str, ...]] = ("annotations", "keys")

    annotations: torch.Tensor  # (B, L, D)
    keys: torch.Tensor  # (B, L, A); A = 0 without attention
    rows: int  # of the annotation grid: L = rows * cols, row by row
    cols: int
    # (B, 1): the token that starts the sentences of each image; None: <start>.
    first: torch.Tensor | None = field(default=None, kw_only=True)

    @property
    def images(self) -> int:
        """The number of images, B."""
        return self.annotations.shape[0]

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The tensors named by `per_image`."""
        return tuple(getattr(self, name) for name in self.per_image)

    def with_tensors(self, tensors: Iterable[torch.Tensor]) -> Self:
        """Return a copy that holds `tensors`, in the order of `per_image`, for other images."""
        fields: dict[str, Any] = dict(zip(self.per_image, tensors, strict=True))
        return replace(self, **fields)

    def select(self, index: Sequence[int] | torch.Tensor) -> Self:
        """Return the encoding of the images `index`, in that order."""
        chosen = torch.as_tensor(index, dtype=torch.long, device=self.annotations.device)
        first = None if self.first is None else self.first[chosen]
        return replace(self.with_tensors(tensor[chosen] for tensor in self.tensors), first=first)

    def attribute(self, image: int, token: int, weights: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Attribute `token`, generated for an image, to places: (L,), with the sum of `weights`.

        `weights` (L,) is the attention of the step that generated it. Without a word detector, the attribution is the
        attention.
        """
        return weights


@dataclass(frozen=True, slots=True)
class AdaptiveEncodedImages(EncodedImages):
    """The encoding of the adaptive decoder: annotations and keys on the fine grid, words on the coarse one."""

    per_image: ClassVar[tuple[str, ...]] = (*EncodedImages.per_image, "words", "evidence")

    words: torch.Tensor  # (B, l, N): the probability that a place shows a word
    evidence: torch.Tensor  # (B, N): evidence that the picture shows a word anywhere
    upsample: torch.Tensor | None  # (L, l): from the coarse grid to the fine one; None if L = l
    seen_as: torch.Tensor  # (V,): the detector's word that a token is a form of; N for none

    def attribute(self, image: int, token: int, weights: torch.Tensor) -> torch.Tensor:
        """See EncodedImages. Here the attribution is attention times the detector's evidence, if it knows the word.

        Evidence raises the score of a word by the sum over places of attention times the presence of the word
        (AdaptiveDecoder.word_evidence). The attribution of a place is its share of that sum. The receptive field of a
        place is much larger than its cell, so the fine grid is smoothed.
        """
        presence = self.presence(image, token)
        if presence is None:
            return weights
        attribution = weights * presence
        if self.upsample is not None:
            attribution = smooth(attribution.view(self.rows, self.cols)).flatten()
        return attribution * (weights.sum() / attribution.sum())

    def presence(self, image: int, token: int) -> torch.Tensor | None:
        """Return how much each place of an image shows the word of `token`: (L,).

        Returns None if the detector does not know the word.
        """
        word = int(self.seen_as[token])
        if word == self.words.shape[2]:
            return None
        presence = self.words[image, :, word]
        return (presence if self.upsample is None else self.upsample @ presence) + EPSILON


@lru_cache(maxsize=8)
def bilinear_matrix(coarse: int, fine: int, device: torch.device) -> torch.Tensor:
    """Return the matrix (fine * fine, coarse * coarse) that upsamples a grid bilinearly.

    The corners of the grids coincide: the places of a convolution with stride 2 lie on places of its input.
    """
    with torch.inference_mode(False):  # the cached matrix may be used in training later
        identity = torch.eye(coarse * coarse, device=device).view(-1, 1, coarse, coarse)
        upsampled = functional.interpolate(identity, size=(fine, fine), mode="bilinear", align_corners=True)
        return upsampled.flatten(1).t().contiguous()


def smooth(grid: torch.Tensor) -> torch.Tensor:
    """Smooth a grid (rows, cols) with the kernel [1, 2, 1] / 4 in both directions. Its sum stays the same."""
    rows, cols = grid.shape
    return _smoothing_matrix(rows, grid.device) @ grid @ _smoothing_matrix(cols, grid.device)


@lru_cache(maxsize=8)
def _smoothing_matrix(places: int, device: torch.device) -> torch.Tensor:
    """Return the matrix (places, places) of the kernel [1, 2, 1] / 4 with replicated ends.

    The matrix is symmetric, so sums stay the same.
    """
    with torch.inference_mode(False):
        kernel = torch.tensor([0.25, 0.5, 0.25], device=device).view(1, 1, 3)
        identity = torch.eye(places, device=device).unsqueeze(1)
        return functional.conv1d(functional.pad(identity, (1, 1), mode="replicate"), kernel).squeeze(1)
