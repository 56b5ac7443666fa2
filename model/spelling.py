"""From tokens to words. In: hypotheses; out: captions, as plain data.

It must not know how the tokens were chosen.
"""

from collections.abc import Sequence

from model.caption import Attention, Caption, Word
from model.hypothesis import Hypothesis
from model.vocabulary import UNKNOWN, Vocabulary


class Speller:
    """Spells sentences over a grid of `rows` x `cols`; the first words of each are `given`, as somebody wrote them."""

    def __init__(self, vocabulary: Vocabulary, rows: int, cols: int, given: Sequence[str] = ()) -> None:
        self._vocabulary, self._rows, self._cols, self._given = vocabulary, rows, cols, given

    def word(self, position: int, token: int, logprob: float, weights: list[float]) -> Word:
        """The word at `position`; a given one may not be known, and is spelt as it was given."""
        text = self._given[position] if position < len(self._given) else self._vocabulary.word(token)
        # Six digits keep the sum of a grid within 1e-4 of 1 and an answer within a few kilobytes.
        attention = Attention(self._rows, self._cols, [round(weight, 6) for weight in weights])
        return Word(text, round(logprob, 6), attention, known=token != UNKNOWN)

    def caption(self, hypothesis: Hypothesis) -> Caption:
        """The sentence."""
        steps = zip(hypothesis.tokens, hypothesis.logprobs, hypothesis.attention.tolist(), strict=True)
        words = [self.word(position, *step) for position, step in enumerate(steps)]
        return Caption(" ".join(word.text for word in words), round(hypothesis.logprob, 6), words)
