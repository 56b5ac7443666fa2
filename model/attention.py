"""Soft attention over the annotation grid. In: queries and annotations; out: weights and context vectors.

It must not know what the queries are or which word is being said.
"""

from typing import Literal

import torch
from torch import nn


class Attention(nn.Module):
    """What all forms of attention offer. Keys are computed once an image.

    All rows of an image (beams, or the captions of a training image) share its keys and annotations without a copy.
    """

    def keys(self, annotations: torch.Tensor) -> torch.Tensor:
        """Annotations (B, L, D) to keys (B, L, A)."""
        raise NotImplementedError

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, annotations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries (B, R, Q) over keys (B, L, A) and annotations (B, L, D).

        Returns the context vectors (B, R, D) and the attention weights (B, R, L), which sum to 1 over L.
        """
        raise NotImplementedError


class AdditiveAttention(Attention):
    """Additive attention: Bahdanau, Cho and Bengio (2015), over a grid as in Xu et al., Show, Attend and Tell (2015).

    score(q, a) = v . tanh(W_q q + W_k a)
    """

    def __init__(self, query_size: int, annotation_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, attention_size)
        self.key = nn.Linear(annotation_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def keys(self, annotations: torch.Tensor) -> torch.Tensor:
        """See Attention."""
        return self.key(annotations)  # type: ignore[no-any-return]

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, annotations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See Attention."""
        energy = torch.tanh(self.query(queries).unsqueeze(2) + keys.unsqueeze(1))  # (B, R, L, A)
        weights = _softmax(self.score(energy).squeeze(3))
        return weights.to(annotations.dtype) @ annotations, weights


class DotAttention(Attention):
    """Scaled dot-product attention with query, key and value projections, one head: Vaswani et al. (2017).

    score(q, a) = (W_q q) . (W_k a) / sqrt(A)
    """

    def __init__(self, query_size: int, annotation_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, attention_size)
        self.key = nn.Linear(annotation_size, attention_size, bias=False)
        self.value = nn.Linear(annotation_size, annotation_size, bias=False)

    def keys(self, annotations: torch.Tensor) -> torch.Tensor:
        """See Attention."""
        return self.key(annotations)  # type: ignore[no-any-return]

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, annotations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See Attention."""
        scores = self.query(queries) @ keys.transpose(1, 2) * keys.shape[2] ** -0.5
        weights = _softmax(scores)
        # The value of a weighted sum is the weighted sum of the values: one projection a row, not one a place.
        return self.value(weights.to(annotations.dtype) @ annotations), weights


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Scores (B, R, L) to weights. In float32: half precision has too few digits for a tail that is shown to people."""
    return torch.softmax(scores.float(), dim=2)


AttentionName = Literal["none", "additive", "dot"]
ATTENTIONS: dict[AttentionName, type[AdditiveAttention] | type[DotAttention]] = {
    "additive": AdditiveAttention,
    "dot": DotAttention,
}
