"""Tokens to words: hypotheses to captions as plain data."""

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
    """A finished or cut sequence, without <start> and <end>. `logprob` includes the decision to end."""

    tokens: list[int]  # T
    logprobs: list[float]  # T
    attention: torch.Tensor  # (T, L), float32 on the CPU
    logprob: float


def to_hypotheses(
    tokens: torch.Tensor, logprobs: torch.Tensor, attention: torch.Tensor, totals: torch.Tensor
) -> list[list[Hypothesis]]:
    """Return the R hypotheses of each of B images, cut at the first <end>.

    tokens and logprobs are (B, R, T), attention is (B, R, T, L). totals (B, R) are the log-probabilities of whole
    sentences.
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
    length = sequence.index(END) if END in sequence else len(sequence)
    return Hypothesis(sequence[:length], logprobs[:length], attention[:length], total)


class Detokenizer:
    """Turn tokens into words and captions for the images of `encoded`.

    The first words of each sentence are `given` in the spelling of the caller.
    """

    def __init__(self, vocabulary: Vocabulary, encoded: EncodedImages, given: Sequence[str] = ()) -> None:
        self.vocabulary = vocabulary
        self._encoded, self._given = encoded, given

    def word(
        self,
        image: int,
        position: int,
        span: Span,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        weights: Sequence[Sequence[float]] | NDArray[np.float32],
    ) -> Word:
        """Return the word at `position`, made of `span` of the tokens, from their log-probabilities and attention.

        `weights` holds the attention of each token; the weights of a token sum to the share of its attention that goes
        to the picture. The log-probability is the sum over the tokens of the word. `attention` is the mean of their
        weights, `heatmap` the mean of their attributions (EncodedImages.attribute). A given word keeps its spelling
        even if it is not in the vocabulary.
        """
        own_tokens = tokens[span.start : span.end]
        text = self._given[position] if position < len(self._given) else self.vocabulary.spell(own_tokens)
        attention = np.asarray(weights[span.start : span.end], dtype=np.float32)  # (T, L)
        evidence = np.stack([self._attribute(image, *step) for step in zip(own_tokens, attention, strict=True)])
        grounding = float(attention.sum(axis=1, dtype=np.float64).mean())
        return Word(
            text,
            round(sum(logprobs[span.start : span.after]), 6),
            attention=self._map(attention),
            heatmap=self._map(evidence),
            visual_grounding=min(1.0, round(grounding, 4)),
            in_vocabulary=UNKNOWN not in own_tokens,
        )

    def _map(self, steps: NDArray[np.float32]) -> WordMap:
        """Return the mean of the maps (T, L) of a word, normalised to a sum of 1."""
        mean = steps.mean(axis=0, dtype=np.float64)
        # Six digits keep the sum of a map within 1e-3 of 1, and answers small.
        return WordMap(self._encoded.rows, self._encoded.cols, (mean / mean.sum()).round(6).tolist())

    def _attribute(self, image: int, token: int, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        device = self._encoded.annotations.device
        attribution = self._encoded.attribute(
            image, token, torch.as_tensor(weights, dtype=torch.float32, device=device)
        )
        return attribution.float().cpu().numpy()

    def caption(self, image: int, hypothesis: Hypothesis) -> Caption:
        """Return the caption of a hypothesis of the image with index `image`."""
        tokens, weights = hypothesis.tokens, hypothesis.attention.cpu().numpy()
        words = [
            self.word(image, position, span, tokens, hypothesis.logprobs, weights)
            for position, span in enumerate(self.vocabulary.spans(tokens))
        ]
        return Caption(" ".join(word.text for word in words), round(hypothesis.logprob, 6), words)
