"""K beams of each of B images between two steps of a search, and the way back to where each has come from.

It must not know how beams are chosen, nor what the tokens mean, beyond <end>.
"""

from dataclasses import dataclass

import torch

from model.text.vocabulary import END


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did, for each of K beams of B images."""

    parent: torch.Tensor  # (B, K): the beam that each beam goes on from
    logprobs: torch.Tensor  # (B, K): of the word that it goes on with
    weights: torch.Tensor  # (B, K, L): where the beams looked, before any was chosen

    def of(self, images: torch.Tensor) -> "Step":
        """What it did for some of the images."""
        return Step(self.parent[images], self.logprobs[images], self.weights[images])


@dataclass(frozen=True, slots=True)
class Beams:
    """K beams of each of B images, between two steps."""

    images: torch.Tensor  # (B,): their numbers
    said: torch.Tensor  # (B, K, T), with the prefix
    total: torch.Tensor  # (B, K): log-probabilities
    paid: torch.Tensor  # (B, K): for words that earlier groups have chosen
    length: torch.Tensor  # (B, K), with <end>, without the prefix
    steps: list[Step]

    @property
    def tokens(self) -> torch.Tensor:
        """The latest (B, K)."""
        return self.said[:, :, -1]

    @property
    def ended(self) -> torch.Tensor:
        """Which beams (B, K) have ended."""
        return self.tokens == END if self.steps else torch.zeros_like(self.total, dtype=torch.bool)

    def of(self, rows: torch.Tensor) -> "Beams":
        """Those of some of the images."""
        return Beams(
            images=self.images[rows],
            said=self.said[rows],
            total=self.total[rows],
            paid=self.paid[rows],
            length=self.length[rows],
            steps=[step.of(rows) for step in self.steps],
        )

    def trace_back(self, ranking: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (B, N, S) and attention (B, N, S, L) of the beams `ranking` (B, N), for each of S steps.

        Parents are followed from the last step to the first: so attention is that of the beams that survived.
        """
        row = ranking  # (B, N): the beam that held each hypothesis after the step at hand
        logprobs, attention = [], []
        for step in reversed(self.steps):
            logprobs.append(step.logprobs.gather(1, row))
            row = step.parent.gather(1, row)
            # Attention belongs to the beam that looked, which is the parent of the word that it led to.
            attention.append(step.weights.gather(1, row.unsqueeze(2).expand(-1, -1, step.weights.shape[2])))
        return torch.stack(logprobs[::-1], dim=2), torch.stack(attention[::-1], dim=2)
