"""A sentence in tokens, and how a batch of them leaves the device. It must not know what the tokens mean."""

from dataclasses import dataclass

import torch

from model.text.vocabulary import END


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
