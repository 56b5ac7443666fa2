"""From tokens to words. In: hypotheses; out: captions, as plain data.

It must not know how the tokens were chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.decoding.caption import Caption, Word, WordMap
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import END, UNKNOWN, Span, Vocabulary


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One finished (or cut) sequence, without <start> and <end>; `logprob` includes the decision to end."""

    tokens: list[int]  # T
    logprobs: list[float]  # T
    attention: torch.Tensor  # (T, L), float32 on the CPU
    logprob: float


def read_off(
    tokens: torch.Tensor, logprobs: torch.Tensor, attention: torch.Tensor, totals: torch.Tensor
) -> list[list[Hypothesis]]:
    """The R rows of each of B images, whose sentences go as far as the first <end>.

    tokens and logprobs (B, R, T); attention (B, R, T, L); totals (B, R), the log-probabilities of whole sentences.
    """
    attention = attention.float().cpu()
    rows_of_images = zip(tokens.tolist(), logprobs.tolist(), attention, totals.tolist(), strict=True)
    return [
        [
            _hypothesis(sequence, row_logprobs, row_attention, total)
            for sequence, row_logprobs, row_attention, total in zip(*rows, strict=True)
        ]
        for rows in rows_of_images
    ]


def _hypothesis(sequence: list[int], logprobs: list[float], attention: torch.Tensor, total: float) -> Hypothesis:
    words = sequence.index(END) if END in sequence else len(sequence)
    return Hypothesis(sequence[:words], logprobs[:words], attention[:words], total)


class Detokenizer:
    """Spells sentences about the images of `encoded`; the first words of each are `given`, as somebody wrote them."""

    def __init__(self, vocabulary: Vocabulary, encoded: EncodedImages, given: Sequence[str] = ()) -> None:
        self.vocabulary = vocabulary
        self._memory, self._given = encoded, given

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

        Its log-probability is the sum over its tokens. Its attention is the mean of their weights, its heatmap the mean
        of what places did for them (Memory.credit). The weights of a token sum to the share of its attention that went
        to the picture. A given word that is not in the vocabulary is spelt as it was given.
        """
        spelt = tokens[span.start : span.end]
        text = self._given[position] if position < len(self._given) else self.vocabulary.spell(spelt)
        attention = np.asarray(weights[span.start : span.end], dtype=np.float32)  # (T, L)
        evidence = np.stack([self._attribute(image, *step) for step in zip(spelt, attention, strict=True)])
        grounding = float(attention.sum(axis=1, dtype=np.float64).mean())
        return Word(
            text,
            round(sum(logprobs[span.start : span.after]), 6),
            attention=self._map(attention),
            heatmap=self._map(evidence),
            visual_grounding=min(1.0, round(grounding, 4)),
            in_vocabulary=UNKNOWN not in spelt,
        )

    def _map(self, steps: NDArray[np.float32]) -> WordMap:
        """The mean of the steps (T, L) of a word, which sums to 1."""
        places = steps.mean(axis=0, dtype=np.float64)
        # Six digits keep the sum of a map within 1e-3 of 1 and an answer within some kilobytes.
        return WordMap(self._memory.rows, self._memory.cols, (places / places.sum()).round(6).tolist())

    def _attribute(self, image: int, token: int, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        device = self._memory.annotations.device
        attribute = self._memory.attribute(image, token, torch.as_tensor(weights, dtype=torch.float32, device=device))
        return attribute.cpu().numpy()

    def caption(self, image: int, hypothesis: Hypothesis) -> Caption:
        """The sentence, of the image of that number."""
        tokens, weights = hypothesis.tokens, hypothesis.attention.cpu().numpy()
        words = [
            self.word(image, position, span, tokens, hypothesis.logprobs, weights)
            for position, span in enumerate(self.vocabulary.spans(tokens))
        ]
        return Caption(" ".join(word.text for word in words), round(hypothesis.logprob, 6), words)
