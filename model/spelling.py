"""From tokens to words. In: hypotheses; out: captions, as plain data.

It must not know how the tokens were chosen.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.caption import Attention, Caption, Word
from model.hypothesis import Hypothesis
from model.memory import Memory
from model.vocabulary import UNKNOWN, Span, Vocabulary


class Speller:
    """Spells sentences about the images of `memory`; the first words of each are `given`, as somebody wrote them."""

    def __init__(self, vocabulary: Vocabulary, memory: Memory, given: Sequence[str] = ()) -> None:
        self.vocabulary = vocabulary
        self._memory, self._given = memory, given

    def word(
        self,
        image: int,
        position: int,
        span: Span,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        weights: Sequence[Sequence[float]] | NDArray[np.float32],
    ) -> Word:
        """The word at `position`, which is `span` of tokens that have log-probabilities and attention `weights`.

        Its log-probability is the sum over its tokens, its attention the mean of what places did for those that spell
        it (Memory.credit). The weights of a token sum to the share of its attention that went to the picture. A given
        word may not be known, and is spelt as it was given.
        """
        spelt = tokens[span.start : span.end]
        text = self._given[position] if position < len(self._given) else self.vocabulary.spell(spelt)
        steps = zip(spelt, weights[span.start : span.end], strict=True)
        given = np.stack([self._credit(image, token, attention) for token, attention in steps])
        places = given.mean(axis=0, dtype=np.float64)
        looked = float(places.sum())
        # Six digits keep the sum of a grid within 1e-3 of 1 and an answer within some kilobytes.
        attention = Attention(self._memory.rows, self._memory.cols, (places / looked).round(6).tolist())
        logprob = round(sum(logprobs[span.start : span.after]), 6)
        return Word(text, logprob, attention, looked=min(1.0, round(looked, 4)), known=UNKNOWN not in spelt)

    def _credit(self, image: int, token: int, weights: Sequence[float] | NDArray[np.float32]) -> NDArray[np.float32]:
        device = self._memory.annotations.device
        credit = self._memory.credit(image, token, torch.as_tensor(weights, dtype=torch.float32, device=device))
        return credit.float().cpu().numpy()

    def caption(self, image: int, hypothesis: Hypothesis) -> Caption:
        """The sentence, of the image of that number."""
        tokens, weights = hypothesis.tokens, hypothesis.attention.cpu().numpy()
        words = [
            self.word(image, position, span, tokens, hypothesis.logprobs, weights)
            for position, span in enumerate(self.vocabulary.spans(tokens))
        ]
        return Caption(" ".join(word.text for word in words), round(hypothesis.logprob, 6), words)
