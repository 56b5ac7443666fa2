"""What a decoder knows of a batch of images: the annotations that every word looks at anew, and what goes with them.

Plain tensors. It must not know how images are encoded, or how words are chosen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of a batch of images, computed once and shared by all rows of each image."""

    # The fields that have a part for each image.
    per_image: ClassVar[tuple[str, ...]] = ("annotations", "keys")

    annotations: torch.Tensor  # (B, L, D)
    keys: torch.Tensor  # (B, L, A); A = 0 where there is no attention
    rows: int  # of the annotation grid: L = rows * cols, row by row
    cols: int
    # What each image's sentences begin with: (B, 1), as long as no image was left out. None: <start>.
    first: torch.Tensor | None = field(default=None, kw_only=True)

    @property
    def images(self) -> int:
        """How many images these are: B."""
        return self.annotations.shape[0]

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What there is of each image: the fields `per_image`."""
        return tuple(getattr(self, name) for name in self.per_image)

    def refilled(self, tensors: Iterable[torch.Tensor]) -> Self:
        """The same of other images, of which these are the `tensors`."""
        fields: dict[str, Any] = dict(zip(self.per_image, tensors, strict=True))
        return replace(self, **fields)

    def select(self, index: Sequence[int] | torch.Tensor) -> Self:
        """What is known of some of the images, in the order of `index`."""
        chosen = torch.as_tensor(index, dtype=torch.long, device=self.annotations.device)
        return self.refilled(tensor[chosen] for tensor in self.tensors)

    def credit(self, image: int, token: int, weights: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """How much each place did for a `token` that was said of an image: (L,), of as large a sum as `weights`.

        `weights` (L,) is the attention of the step that said it; to be looked at is all that a place can do here.
        """
        return weights


@dataclass(frozen=True, slots=True)
class AttributedMemory(Memory):
    """What is known of a batch of images, with the words that they are found to show."""

    per_image: ClassVar[tuple[str, ...]] = (*Memory.per_image, "attributes")

    attributes: torch.Tensor  # (B, K, E)
