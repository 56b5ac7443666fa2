"""The training loss. In: logits and attention of teacher forcing, and the true words; out: one number to minimise."""

import torch
from torch import nn

from model.vocabulary import PAD


def caption_loss(
    logits: torch.Tensor,
    attention: torch.Tensor,
    targets: torch.Tensor,
    *,
    label_smoothing: float,
    doubly_stochastic: float,
    words: int | None = None,
    captions: int | None = None,
) -> torch.Tensor:
    """Cross-entropy a word, plus the doubly stochastic term of Show, Attend and Tell (Xu et al., 2015, eq. 14).

    logits (B, R, T, V); attention (B, R, T, L); targets (B, R, T), padded with <pad>, which costs nothing. The second
    term asks that over a sentence every place of the grid gets its share of attention, T/L.

    `words` and `captions` are what the means are over, where that is more than what is here: the losses of the parts
    of a batch then add up to the loss of the batch.
    """
    real = targets != PAD
    cross_entropy = nn.functional.cross_entropy(
        logits.flatten(0, 2), targets.flatten(), ignore_index=PAD, label_smoothing=label_smoothing, reduction="sum"
    )
    loss = cross_entropy / (words or real.sum())
    if doubly_stochastic:
        written = real.any(dim=2)  # images with fewer captions than others have empty rows
        unevenness = _unevenness(attention, real)[written].sum() / (captions or written.sum())
        loss = loss + doubly_stochastic * unevenness
    return loss


def _unevenness(attention: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """How far (B, R) the attention that the places get over a sentence is from an even split, T/L to each."""
    received = (attention * real.unsqueeze(3)).sum(dim=2)  # (B, R, L)
    length = real.sum(dim=2, keepdim=True)  # (B, R, 1)
    # As shares of the even split, so that the weight means the same for every grid and sentence length.
    share = received * attention.shape[3] / length.clamp(min=1)
    return ((share - 1) ** 2).mean(dim=2)
