"""Soft attention over the annotation grid: queries and annotations to weights and context vectors."""

from typing import Literal

import torch
from torch import nn


class Attention(nn.Module):
    """Base class of attention. A subclass defines how a query and a key are scored.

    Keys are computed once per image. All rows of an image (beams, or the captions of a training image) share its keys
    and annotations without a copy.
    """

    def __init__(self, query_size: int, annotation_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, attention_size)
        self.key = nn.Linear(annotation_size, attention_size, bias=False)

    def keys(self, annotations: torch.Tensor) -> torch.Tensor:
        """Project annotations (B, L, D) to keys (B, L, A)."""
        return self.key(annotations)  # type: ignore[no-any-return]

    def scores(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Score projected queries (B, R, A) against the keys (B, L, A) that the rows share. Returns (B, R, L)."""
        raise NotImplementedError

    def value_of(self, mixed: torch.Tensor) -> torch.Tensor:
        """Return the context vectors (B, R, D) of weighted sums of annotations."""
        return mixed

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, annotations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend with queries (B, R, Q) to keys (B, L, A) and annotations (B, L, D).

        Returns the context vectors (B, R, D) and the attention weights (B, R, L), which sum to 1 over L.
        """
        weights = _softmax(self.scores(self.query(queries), keys))
        return self.value_of(weights.to(annotations.dtype) @ annotations), weights


class AdditiveAttention(Attention):
    """Additive attention: Bahdanau, Cho and Bengio (2015), over a grid as in Xu et al., Show, Attend and Tell (2015).

    score(q, a) = v . tanh(W_q q + W_k a)
    """

    def __init__(self, query_size: int, annotation_size: int, attention_size: int) -> None:
        super().__init__(query_size, annotation_size, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def scores(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """See Attention."""
        energy = torch.tanh(query.unsqueeze(2) + keys.unsqueeze(1))  # (B, R, L, A)
        return self.score(energy).squeeze(3)  # type: ignore[no-any-return]


class DotAttention(Attention):
    """Scaled dot-product attention with query, key and value projections, one head: Vaswani et al. (2017).

    score(q, a) = (W_q q) . (W_k a) / sqrt(A)
    """

    def __init__(self, query_size: int, annotation_size: int, attention_size: int) -> None:
        super().__init__(query_size, annotation_size, attention_size)
        self.value = nn.Linear(annotation_size, annotation_size, bias=False)

    def scores(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """See Attention."""
        return query @ keys.transpose(1, 2) * keys.shape[2] ** -0.5  # type: ignore[no-any-return]

    def value_of(self, mixed: torch.Tensor) -> torch.Tensor:
        """See Attention. Projects once per row: the value of a weighted sum is the weighted sum of the values."""
        return self.value(mixed)  # type: ignore[no-any-return]


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Normalise scores (B, R, L) to weights.

    Uses float32: users see the small weights, and half precision has too few digits for them.
    """
    return torch.softmax(scores.float(), dim=2)


AttentionName = Literal["none", "additive", "dot"]
ATTENTIONS: dict[AttentionName, type[AdditiveAttention] | type[DotAttention]] = {
    "additive": AdditiveAttention,
    "dot": DotAttention,
}
