"""What the decoder with adaptive attention knows of a batch of images, and how much places of one did for a word.

Annotations are of the fine grid, words that are seen of the coarse one. It must not know how either was computed.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch.nn import functional

from model.memory import Memory

FAINT = 0.01  # keeps the logarithm of how much of a word is seen away from that of zero


@dataclass(frozen=True, slots=True)
class AdaptiveMemory(Memory):
    """What is known of a batch of images. Annotations and keys are of the fine grid, words of the coarse one."""

    per_image: ClassVar[tuple[str, ...]] = (*Memory.per_image, "words", "evidence")

    words: torch.Tensor  # (B, l, N): which words each place shows
    evidence: torch.Tensor  # (B, N): for a word being shown anywhere
    coarse: torch.Tensor | None  # (L, l): from places of the fine grid to those of the coarse one; None: L = l
    seen_as: torch.Tensor  # (V,): which of the N words each token is a form of, N for none

    def credit(self, image: int, token: int, weights: torch.Tensor) -> torch.Tensor:
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
            given = with_neighbours(given.view(self.rows, self.cols)).flatten()
        return given * (weights.sum() / given.sum())

    def shown(self, image: int, token: int) -> torch.Tensor | None:
        """How much of the word that `token` is a form of each place of an image shows: (L,). None: nobody can say."""
        word = int(self.seen_as[token])
        if word == self.words.shape[2]:
            return None
        shown = self.words[image, :, word]
        return (shown if self.coarse is None else self.coarse @ shown) + FAINT


@lru_cache(maxsize=8)
def spread(coarse: int, fine: int, device: torch.device) -> torch.Tensor:
    """The matrix (fine * fine, coarse * coarse) that enlarges a grid, bilinearly.

    Each place of a convolution with stride 2 lies on a place of its input, so the corners of both grids do, too.
    """
    with torch.inference_mode(False):  # the next who wants it may be training
        one_each = torch.eye(coarse * coarse, device=device).view(-1, 1, coarse, coarse)
        larger = functional.interpolate(one_each, size=(fine, fine), mode="bilinear", align_corners=True)
        return larger.flatten(1).t().contiguous()


def with_neighbours(grid: torch.Tensor) -> torch.Tensor:
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
