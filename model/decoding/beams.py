"""The beams of a search between two steps, and their history."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.decoding.streaming import CertainTokens
from model.decoding.teacher_forcing import ForcedTokens
from model.text.vocabulary import END


@dataclass(frozen=True, slots=True)
class Step:
    """The record of one search step, for K beams of each of B images."""

    parent: torch.Tensor  # (B, K): the beam that each beam continues
    logprobs: torch.Tensor  # (B, K): of the token that each beam adds
    weights: torch.Tensor  # (B, K, L): attention of the beams before the choice

    def select(self, images: torch.Tensor) -> "Step":
        """Return the record for some of the images."""
        return Step(self.parent[images], self.logprobs[images], self.weights[images])


@dataclass(frozen=True, slots=True)
class Beams:
    """K beams of each of B images, between two steps."""

    images: torch.Tensor  # (B,): their index in the whole batch
    tokens: torch.Tensor  # (B, K, T), including the prefix
    total: torch.Tensor  # (B, K): log-probabilities
    penalty: torch.Tensor  # (B, K): what the groups of diverse search pay for repeated words
    length: torch.Tensor  # (B, K), including <end>, without the prefix
    steps: list[Step]

    @property
    def latest(self) -> torch.Tensor:
        """The latest token of each beam (B, K)."""
        return self.tokens[:, :, -1]

    @property
    def ended(self) -> torch.Tensor:
        """Which beams (B, K) have ended."""
        return self.latest == END if self.steps else torch.zeros_like(self.total, dtype=torch.bool)

    def select(self, images: torch.Tensor) -> "Beams":
        """Return the beams of some of the images."""
        return Beams(
            images=self.images[images],
            tokens=self.tokens[images],
            total=self.total[images],
            penalty=self.penalty[images],
            length=self.length[images],
            steps=[step.select(images) for step in self.steps],
        )

    def trace_back(self, ranking: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probabilities (B, N, S) and attention (B, N, S, L) of S steps of the beams `ranking` (B, N).

        Follows the parents from the last step to the first, so that each row describes one surviving beam.
        """
        row = ranking  # (B, N): the beam that holds each hypothesis after this step
        logprobs, attention = [], []
        for step in reversed(self.steps):
            logprobs.append(step.logprobs.gather(1, row))
            row = step.parent.gather(1, row)
            # The parent beam has the attention that led to the token.
            attention.append(step.weights.gather(1, row.unsqueeze(2).expand(-1, -1, step.weights.shape[2])))
        return torch.stack(logprobs[::-1], dim=2), torch.stack(attention[::-1], dim=2)


class CommonPrefixes:
    """The common prefix of the beams of each image, which is certain, and how much of it has been reported."""

    def __init__(self, forced: ForcedTokens) -> None:
        """Start with the tokens in `forced`, which are certain before the first step."""
        self._forced = forced
        self._reported = [0] * len(forced.tokens)  # tokens of each image, including the prefix

    def new_tokens(self, beams: Beams, rows: Sequence[int]) -> list[CertainTokens]:
        """Return the newly certain tokens of the images in these `rows` of `beams`.

        The beams must belong to one group, the most probable first.
        """
        if not rows:
            return []
        index = torch.tensor(rows, device=beams.tokens.device)
        tokens = beams.tokens[index]  # (F, K, T)
        alive = beams.total[index] > -torch.inf  # (F, K): dead beams only fill up the tensor
        equal = ((tokens == tokens[:, :1]) | ~alive.unsqueeze(2)).all(dim=1) & alive[:, :1]  # (F, T)
        shared = equal.cumprod(dim=1).sum(dim=1)  # (F,): the length of the common prefix
        certain = []
        for row, image, count in zip(rows, *torch.stack([beams.images[index], shared]).tolist(), strict=True):
            if count > self._reported[image]:
                certain.append(CertainTokens(row, *self._tokens(beams, row, image, self._reported[image], count)))
                self._reported[image] = count
        return certain

    def _tokens(
        self, beams: Beams, row: int, image: int, first: int, after: int
    ) -> tuple[list[int], list[float], list[list[float]]]:
        """Return the tokens `first` to `after` of the first beam of a row, their log-probabilities and attention.

        Beams have distinct tokens, so beams with a common prefix descend from one beam and share these values.
        """
        forced = self._forced.tokens.shape[1]
        logprobs = list(self._forced.logprobs[image, first:after])
        weights = list(self._forced.attention[image, first:after])
        of_steps = []
        beam = torch.zeros((), dtype=torch.long, device=beams.tokens.device)
        for number in reversed(range(max(0, first - forced), len(beams.steps))):
            step = beams.steps[number]
            logprob, beam = step.logprobs[row, beam], step.parent[row, beam]
            if forced + number < after:
                of_steps.append((logprob, step.weights[row, beam]))
        for logprob, attention in reversed(of_steps):
            logprobs.append(logprob)
            weights.append(attention)
        # Packed into one tensor, so that a GPU synchronises once.
        packed = torch.cat([torch.stack(logprobs).unsqueeze(1), torch.stack(weights)], dim=1).float().tolist()
        tokens: list[int] = beams.tokens[row, 0, first:after].tolist()
        return tokens, [logprob for logprob, *_ in packed], [attention for _, *attention in packed]
