"""What a decoder keeps between two words, whatever its cells are. It must not know what a step does."""

from dataclasses import dataclass

import torch

from model.cells import Parts


@dataclass(frozen=True, slots=True)
class State:
    """The state of all layers for R rows (beams, or captions) of each of B images.

    One tensor for each part that the cells keep: the hidden state and, for an LSTM, its memory.
    """

    parts: Parts  # each (B, R, layers, H)

    @property
    def top(self) -> torch.Tensor:
        """The hidden state of the last layer (B, R, H): what words are read off, and what asks where to look."""
        return self.parts[0][:, :, -1]

    @property
    def layers(self) -> list[Parts]:
        """The state of each layer, as its cell has it: parts (B, R, H)."""
        return list(zip(*(part.unbind(dim=2) for part in self.parts), strict=True))

    @classmethod
    def of_layers(cls, layers: list[Parts]) -> "State":
        """What `layers` took apart."""
        return cls(tuple(torch.stack(part, dim=2) for part in zip(*layers, strict=True)))

    def rows(self, index: torch.Tensor) -> "State":
        """The states of the rows `index` (B, K) of each image."""
        return State(
            tuple(part.gather(1, index[:, :, None, None].expand(-1, -1, *part.shape[2:])) for part in self.parts)
        )

    def images(self, index: torch.Tensor) -> "State":
        """The states of all rows of some of the images."""
        return State(tuple(part[index] for part in self.parts))

    def widened(self, rows: int) -> "State":
        """The state of the only row of each image, for all of `rows`; without a copy."""
        return State(tuple(part.expand(-1, rows, -1, -1) for part in self.parts))
