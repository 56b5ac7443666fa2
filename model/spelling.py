"""From tokens to words. In: hypotheses; out: captions, as plain data.

It must not know how the tokens were chosen.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.caption import Attention, Caption, Word
from model.hypothesis import Hypothesis
from model.vocabulary import UNKNOWN, Span, Vocabulary


class Speller:
    """Spells sentences over a grid of `rows` x `cols`; the first words of each are `given`, as somebody wrote them."""

    def __init__(self, vocabulary: Vocabulary, rows: int, cols: int, given: Sequence[str] = ()) -> None:
        self.vocabulary = vocabulary
        self._rows, self._cols, self._given = rows, cols, given

    def word(
        self,
        position: int,
        span: Span,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        weights: Sequence[Sequence[float]] | NDArray[np.float32],
    ) -> Word:
        """The word at `position`, which is `span` of tokens that have log-probabilities and attention `weights`.

        Its log-probability is the sum over its tokens, its attention the mean over those that spell it. The weights of
        a token sum to the share of its attention that went to the picture. A given word may not be known, and is spelt
        as it was given.
        """
        spelt = tokens[span.start : span.end]
        text = self._given[position] if position < len(self._given) else self.vocabulary.spell(spelt)
        places = np.asarray(weights[span.start : span.end]).mean(axis=0, dtype=np.float64)
        looked = float(places.sum())
        # Six digits keep the sum of a grid within 1e-3 of 1 and an answer within some kilobytes.
        attention = Attention(self._rows, self._cols, (places / looked).round(6).tolist())
        logprob = round(sum(logprobs[span.start : span.after]), 6)
        return Word(text, logprob, attention, looked=min(1.0, round(looked, 4)), known=UNKNOWN not in spelt)

    def caption(self, hypothesis: Hypothesis) -> Caption:
        """The sentence."""
        tokens, weights = hypothesis.tokens, hypothesis.attention.cpu().numpy()
        words = [
            self.word(position, span, tokens, hypothesis.logprobs, weights)
            for position, span in enumerate(self.vocabulary.spans(tokens))
        ]
        return Caption(" ".join(word.text for word in words), round(hypothesis.logprob, 6), words)
