"""A linear layer with fixed weights, fast for few rows.

PyTorch's `linear` is slow on a CPU for few rows, as in every step of a decoder. oneDNN's product, which torch.compile
uses, packs the weights once for its kernels and is up to five times faster.
"""

import torch
from torch.nn import functional

_ROWS = 96  # the layout is optimised for this many rows and works for any number


class PackedLinear:
    """Multiply by the transpose of `weight` (O, I) in `dtype`, and add `bias` (O,)."""

    def __init__(self, weight: torch.Tensor, dtype: torch.dtype, bias: torch.Tensor | None = None) -> None:
        self._weight, self._bias, self._is_packed = weight.to(dtype).contiguous(), bias, False
        if weight.device.type == "cpu":
            try:
                self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, _ROWS)
                self._is_packed = True
            except (AttributeError, RuntimeError):
                pass  # this processor or PyTorch build does not support it

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (..., I) to (..., O), float32."""
        inputs = inputs.to(self._weight.dtype)
        if self._is_packed:
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._weight, None, "none", [], "")
        else:
            product = functional.linear(inputs, self._weight)
        return product.float() if self._bias is None else product.float().add_(self._bias)
