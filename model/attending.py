"""Adaptive attention, step by step, for training: as AdaptiveDecoder.glance has it, with a gradient that costs less.

Each step's gradient of the annotations and keys is as large as they are, and would be written and added up for every
step. Here steps only note what it is made of, and it is one matrix product for all steps.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

# Of each step: its attention (B, R, L), the gradient of its context (B, R, H), that of its scores, its query (B, R, A).
_Notes = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]


class Attending:
    """Looks at the same annotations (B, L, H) with keys (B, L, A), again and again."""

    def __init__(self, annotations: torch.Tensor, keys: torch.Tensor) -> None:
        self._notes: _Notes = []
        self._annotations, self._keys = _Gather.apply(annotations, keys, self._notes)

    def __call__(self, query: torch.Tensor, sentinel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A query (B, R, A) and the score of the sentinel (B, R, 1) to context, attention and the sentinel's share."""
        return _Attend.apply(query, sentinel, self._annotations, self._keys, self._notes)  # type: ignore[no-any-return]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        query, sentinel, annotations, keys, ctx.notes = inputs
        scores = torch.cat([query @ keys.transpose(1, 2), sentinel], dim=2).float() * query.shape[2] ** -0.5
        attention = scores.softmax(dim=2)
        weights, not_looking = attention[:, :, :-1], attention[:, :, -1:]
        looked = weights.to(annotations.dtype)
        ctx.save_for_backward(query, annotations, keys, attention, looked)
        return looked @ annotations, weights.clone(), not_looking.clone()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor | None, ...]:
        of_context, of_weights, of_sentinel = gradients
        query, annotations, keys, attention, looked = ctx.saved_tensors
        of_weights = of_weights + of_context @ annotations.transpose(1, 2)
        of_attention = torch.cat([of_weights, of_sentinel], dim=2)
        of_scores = attention * (of_attention - (of_attention * attention).sum(dim=2, keepdim=True))
        of_scores = (of_scores * query.shape[2] ** -0.5).to(keys.dtype)
        of_keys = of_scores[:, :, :-1]
        ctx.notes.append((looked, of_context, of_keys, query))
        return of_keys @ keys, of_scores[:, :, -1:], None, None, None


class _Gather(torch.autograd.Function):
    """Passes annotations and keys on; their gradient is that of all steps, whose backward passes have come before."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        annotations, keys, ctx.notes = inputs
        return annotations.view_as(annotations), keys.view_as(keys)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        if not ctx.notes:
            return None, None, None
        looked, of_context, of_scores, query = (torch.cat(parts, dim=1) for parts in zip(*ctx.notes, strict=True))
        ctx.notes.clear()
        return looked.transpose(1, 2) @ of_context, of_scores.transpose(1, 2) @ query, None
