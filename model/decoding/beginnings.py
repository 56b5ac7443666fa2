"""How a caption begins, while beam search still looks for its end.

All that a search can still find goes on from one of its beams, those that have ended among them. What all beams of an
image begin with is therefore the beginning of whatever will be found, and is certain.
In: beams, as the search goes on; out: the tokens that have become certain. It must not know who wants them.
"""

from collections.abc import Sequence

import torch

from model.decoding.beams import Beams
from model.decoding.streaming import Certain
from model.decoding.teacher_forcing import Forced


class Beginnings:
    """Of each image of a batch, what has become certain and how much of that was given out."""

    def __init__(self, forced: Forced) -> None:
        """The search starts with what was `forced`, which is certain before its first step."""
        self._forced = forced
        self._given = [0] * len(forced.tokens)  # tokens of each image, those of the prefix included

    def further(self, beams: Beams, rows: Sequence[int]) -> list[Certain]:
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
                further.append(Certain(row, *self._tokens(beams, row, image, self._given[image], count)))
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
