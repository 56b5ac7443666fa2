"""Soft attention over the annotation grid. In: queries and annotations; out: weights and context vectors.

It must not know what the queries are or which word is being said.
"""

import torch
from torch import nn


class AdditiveAttention(nn.Module):
    """Additive attention: Bahdanau, Cho and Bengio (2015), over a grid as in Xu et al., Show, Attend and Tell (2015).

    score(q, a) = v . tanh(W_q q + W_k a). Keys are computed once an image; all rows of an image (beams, or the
    captions of a training image) share them without a copy.
    """

    def __init__(self, query_size: int, annotation_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, attention_size)
        self.key = nn.Linear(annotation_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def keys(self, annotations: torch.Tensor) -> torch.Tensor:
        """Annotations (B, L, D) to keys (B, L, A)."""
        return self.key(annotations)  # type: ignore[no-any-return]

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, annotations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries (B, R, Q) over keys (B, L, A) and annotations (B, L, D).

        Returns the context vectors (B, R, D) and the attention weights (B, R, L), which sum to 1 over L.
        """
        energy = torch.tanh(self.query(queries).unsqueeze(2) + keys.unsqueeze(1))  # (B, R, L, A)
        # float(): half precision has too few digits for a softmax whose tail is shown to people.
        weights = torch.softmax(self.score(energy).squeeze(3).float(), dim=2)  # (B, R, L)
        return weights.to(annotations.dtype) @ annotations, weights
