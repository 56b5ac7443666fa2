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
) -> torch.Tensor:
    """Cross-entropy a word, plus the doubly stochastic term of Show, Attend and Tell (Xu et al., 2015, eq. 14).

    logits (B, R, T, V); attention (B, R, T, L); targets (B, R, T), padded with <pad>, which costs nothing. The second
    term asks that over a sentence every place of the grid gets its share of attention, T/L.
    """
    cross_entropy = nn.functional.cross_entropy(
        logits.flatten(0, 2), targets.flatten(), ignore_index=PAD, label_smoothing=label_smoothing
    )
    real = (targets != PAD).unsqueeze(3)  # (B, R, T, 1)
    received = (attention * real).sum(dim=2)  # (B, R, L)
    length = real.sum(dim=2)  # (B, R, 1)
    # As shares of the even split T/L, so that the weight means the same for every grid and sentence length.
    share = received * attention.shape[3] / length.clamp(min=1)
    written = length.squeeze(2) > 0  # images with fewer captions than others have empty rows
    unevenness = ((share - 1) ** 2).mean(dim=2)[written].mean()
    return cross_entropy + doubly_stochastic * unevenness
