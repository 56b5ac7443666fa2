"""Attention that is repeated over the same annotations, with a cheap gradient, for training.

The gradient of annotations and keys is as large as they are. Autograd would compute it for every step and add them up.
Here each step records the factors of its gradient, and the sum over all steps is one matrix product.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

# Of each step: the attention (B, R, L), the gradients of context (B, R, H) and scores (B, R, L), the query (B, R, A).
_Factors = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]


class RepeatedAttention:
    """Attends to annotations (B, L, H) with keys (B, L, A), or to a sentinel, any number of times."""

    def __init__(self, annotations: torch.Tensor, keys: torch.Tensor) -> None:
        self._factors: _Factors = []
        self._annotations, self._keys = _SumGradients.apply(annotations, keys, self._factors)

    def __call__(self, query: torch.Tensor, sentinel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return context (B, R, H), attention (B, R, L) and the sentinel's share (B, R, 1).

        `query` is (B, R, A), and `sentinel` (B, R, 1) the score of the sentinel.
        """
        return _Attend.apply(query, sentinel, self._annotations, self._keys, self._factors)  # type: ignore[no-any-return]


class _Attend(torch.autograd.Function):
    """One step. Its backward pass records the factors of the gradient of annotations and keys."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        query, sentinel, annotations, keys, ctx.factors = inputs
        scores = torch.cat([query @ keys.transpose(1, 2), sentinel], dim=2).float() * query.shape[2] ** -0.5
        attention = scores.softmax(dim=2)
        weights, sentinel_weight = attention[:, :, :-1], attention[:, :, -1:]
        rounded = weights.to(annotations.dtype)
        ctx.save_for_backward(query, annotations, keys, attention, rounded)
        return rounded @ annotations, weights.clone(), sentinel_weight.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor | None, ...]:
        of_context, of_weights, of_sentinel = gradients
        query, annotations, keys, attention, rounded = ctx.saved_tensors
        of_weights = of_weights + of_context @ annotations.transpose(1, 2)
        of_attention = torch.cat([of_weights, of_sentinel], dim=2)
        of_scores = attention * (of_attention - (of_attention * attention).sum(dim=2, keepdim=True))
        of_scores = (of_scores * query.shape[2] ** -0.5).to(keys.dtype)
        ctx.factors.append((rounded, of_context, of_scores[:, :, :-1], query))
        return of_scores[:, :, :-1] @ keys, of_scores[:, :, -1:], None, None, None


class _SumGradients(torch.autograd.Function):
    """The identity. Its backward pass, which runs after those of all steps, computes the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        annotations, keys, ctx.factors = inputs
        return annotations.view_as(annotations), keys.view_as(keys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        if not ctx.factors:
            return None, None, None
        rounded, of_context, of_scores, query = (torch.cat(parts, dim=1) for parts in zip(*ctx.factors, strict=True))
        ctx.factors.clear()
        return rounded.transpose(1, 2) @ of_context, of_scores.transpose(1, 2) @ query, None
