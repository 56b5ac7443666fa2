"""The encoder's tail as matrix products: the same function as Encoder.tail, much faster to train on a CPU.

On grids as small as 9 x 9, convolutions are matrix products. In bfloat16 with AMX, a product is some twenty times as
fast as the backward pass of a convolution. Channels come first throughout, (C, B, places), so nothing is reordered. A
depthwise convolution is a product with one sparse matrix per channel. It is not trained (Encoder.tail_parameters).
"""

from collections.abc import Callable
from typing import Any

import torch
from timm.models._efficientnet_blocks import InvertedResidual
from torch import nn
from torch.nn import functional

from model.network.encoder import Encoder


def make_tail(encoder: Encoder, side: int, dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make a function that computes `encoder.tail` of activations (B, C', side, side) in `dtype`.

    It uses the weights that the encoder has when it is called, except for those of depthwise convolutions. For an
    encoder of other blocks, it is `encoder.tail` itself.
    """
    stages = encoder.stages[encoder.tail_from :]
    modules: list[Any] = [block for stage in stages[:-1] for block in stage.children()]
    if not modules or not all(map(_is_supported, modules)):
        return encoder.tail
    blocks: list[_Block] = []
    for module in modules:
        blocks.append(_Block(module, side, dtype))
        side = blocks[-1].side
    head: Any = stages[-1]
    convolution, norm = head

    def tail(activations: torch.Tensor) -> torch.Tensor:
        value = activations.flatten(2).transpose(0, 1).to(dtype, memory_format=torch.contiguous_format)  # (C', B, L')
        for block in blocks:
            value = block(value)
        value = _pointwise(value, convolution, norm)  # (C, B, L)
        return value.view(-1, len(activations), side, side).transpose(0, 1)

    return tail


def _is_supported(block: Any) -> bool:
    return (
        type(block) is InvertedResidual
        and isinstance(block.se, nn.Identity)
        and isinstance(block.aa, nn.Identity)
        and isinstance(block.drop_path, nn.Identity)
        and isinstance(block.bn1.act, nn.ReLU6)
        and isinstance(block.bn3.act, nn.Identity)
    )


class _Block:
    """An inverted residual block: expansion, depthwise convolution, projection."""

    @torch.no_grad()
    def __init__(self, block: InvertedResidual, side: int, dtype: torch.dtype) -> None:
        self._block = block
        scale, shift = _scale_and_shift(block.bn2)
        kernels = block.conv_dw.weight * scale[:, None, None, None]  # (C, 1, k, k)
        # Row p of a channel's matrix is the convolution of a grid with a one at place p and zeros elsewhere.
        grids = torch.eye(side * side, dtype=kernels.dtype).view(-1, 1, side, side)
        matrix = torch.cat([_depthwise(block.conv_dw, grids, part) for part in kernels.split(64)], dim=1)
        self.side = matrix.shape[-1]
        self._matrix = matrix.flatten(2).transpose(0, 1).to(dtype).contiguous()  # (C, places, places')
        self._shift = shift[:, None, None].to(dtype)

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        """(C', B, places) to (C'', B, places')."""
        block = self._block
        inner = _pointwise(value, block.conv_pw, block.bn1)
        inner = functional.hardtanh(torch.baddbmm(self._shift, inner, self._matrix), 0, 6, inplace=True)
        outer = _pointwise(inner, block.conv_pwl, block.bn3)
        return outer + value if block.has_skip else outer


def _depthwise(convolution: nn.Conv2d, grids: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Convolve each of `grids` (B, 1, R, R) with all `kernels` (C, 1, k, k), strided and padded like `convolution`."""
    size, stride = convolution.kernel_size[0], convolution.stride[0]
    if type(convolution) is nn.Conv2d:
        before = after = int(convolution.padding[0])
    else:  # timm's "same" convolution, padded as in TensorFlow
        side = grids.shape[-1]
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        before, after = total // 2, total - total // 2
    padded = functional.pad(grids, (before, after, before, after))
    return functional.conv2d(padded.expand(-1, len(kernels), -1, -1), kernels, stride=stride, groups=len(kernels))


def _pointwise(value: torch.Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
    """Apply a 1 x 1 convolution, its norm and its activation to `value` (C', B, places)."""
    scale, shift = _scale_and_shift(norm)
    weight = (convolution.weight.flatten(1) * scale[:, None]).to(value.dtype)
    result = torch.addmm(shift[:, None].to(value.dtype), weight, value.flatten(1))
    if isinstance(norm.act, nn.ReLU6):
        result = functional.hardtanh(result, 0, 6, inplace=True)
    return result.view(-1, *value.shape[1:])


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return batch normalisation with fixed statistics as a factor and a summand, each (C,)."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
