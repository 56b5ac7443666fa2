"""K beams of each of B images between two steps of a search, and the way back to where each has come from.

It must not know how beams are chosen, nor what the tokens mean, beyond <end>.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.decoding.streaming import CertainTokens
from model.decoding.teacher_forcing import ForcedTokens
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


class CommonPrefixes:
    """Of each image of a batch, what has become certain and how much of that was given out."""

    def __init__(self, forced: ForcedTokens) -> None:
        """The search starts with what was `forced`, which is certain before its first step."""
        self._forced = forced
        self._given = [0] * len(forced.tokens)  # tokens of each image, those of the prefix included

    def further(self, beams: Beams, rows: Sequence[int]) -> list[CertainTokens]:
        """What has become certain of the images in these `rows` of `beams`, beyond what was given out before.

        The beams must be those of one group, the likeliest first.
        """
        if not rows:
            return []
        places = torch.tensor(rows, device=beams.said.device)
        said = beams.said[places]  # (F, K, T)
        lives = beams.total[places] > -torch.inf  # (F, K): the others are there to fill up, and nothing comes of them
        alike = ((said == said[:, :1]) | ~lives.unsqueeze(2)).all(dim=1) & lives[:, :1]  # (F, T)
        shared = alike.cumprod(dim=1).sum(dim=1)  # (F,): how many tokens all beams begin with
        further = []
        for row, image, count in zip(rows, *torch.stack([beams.images[places], shared]).tolist(), strict=True):
            if count > self._given[image]:
                further.append(CertainTokens(row, *self._tokens(beams, row, image, self._given[image], count)))
                self._given[image] = count
        return further

    def _tokens(
        self, beams: Beams, row: int, image: int, first: int, after: int
    ) -> tuple[list[int], list[float], list[list[float]]]:
        """The tokens `first` to `after` of a row's likeliest beam, their log-probabilities and attention weights.

        No two beams have said the same, so those that begin alike have come from one, and share these too.
        """
        forced = self._forced.tokens.shape[1]
        logprobs = list(self._forced.logprobs[image, first:after])
        weights = list(self._forced.attention[image, first:after])
        of_steps = []
        beam = torch.zeros((), dtype=torch.long, device=beams.said.device)
        for number in reversed(range(max(0, first - forced), len(beams.steps))):
            step = beams.steps[number]
            logprob, beam = step.logprobs[row, beam], step.parent[row, beam]
            if forced + number < after:
                of_steps.append((logprob, step.weights[row, beam]))
        for logprob, looked in reversed(of_steps):
            logprobs.append(logprob)
            weights.append(looked)
        # Packed, so that a GPU is asked once.
        packed = torch.cat([torch.stack(logprobs).unsqueeze(1), torch.stack(weights)], dim=1).float().tolist()
        tokens: list[int] = beams.said[row, 0, first:after].tolist()
        return tokens, [logprob for logprob, *_ in packed], [looked for _, *looked in packed]
