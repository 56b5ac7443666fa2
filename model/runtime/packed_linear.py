"""A matrix product with a factor that stays. In: that factor; out: something that multiplies vectors by it.

PyTorch's own `linear` is slow on a CPU where the rows are few, as they are in every step of a decoder. The product of
oneDNN, which torch.compile uses, lays the fixed factor out for its kernels once. It is up to five times faster.
"""

import torch
from torch.nn import functional

_ROWS = 96  # what the layout is made for; it serves any number


class PackedLinear:
    """Multiplies by the transpose of `weight` (O, I), in `dtype`, and adds `bias` (O,)."""

    def __init__(self, weight: torch.Tensor, dtype: torch.dtype, bias: torch.Tensor | None = None) -> None:
        self._weight, self._bias, self._is_packed = weight.to(dtype).contiguous(), bias, False
        if weight.device.type == "cpu":
            try:
                self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, _ROWS)
                self._is_packed = True
            except (AttributeError, RuntimeError):
                pass  # a processor, or a PyTorch, without it

    def __call__(self, factor: torch.Tensor) -> torch.Tensor:
        """(..., I) to (..., O), float32."""
        factor = factor.to(self._weight.dtype)
        if self._is_packed:
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(factor, self._weight, None, "none", [], "")
        else:
            product = functional.linear(factor, self._weight)
        return product.float() if self._bias is None else product.float().add_(self._bias)
