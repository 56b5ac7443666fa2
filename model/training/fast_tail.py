"""The encoder's tail as matrix products: what `Encoder.tail` computes, and its gradient, many times as fast on a CPU.

Convolutions of a grid as small as 9 x 9 are matrix products in disguise, and processors are made for those: in bfloat16
with AMX a product is some twenty times as fast as a convolution's backward pass. Channels come first throughout,
(C, B, places), so that no step has to bring anything into another order. Depthwise convolutions are products with a
sparse matrix for each channel; they and their normalisation are not trained (see Encoder.tail_parameters).
"""

from collections.abc import Callable

import torch
from timm.models._efficientnet_blocks import InvertedResidual
from torch import nn
from torch.nn import functional

from model.encoder import Encoder

# (C, B, places) to the same after a part of the tail.
_Part = Callable[[torch.Tensor], torch.Tensor]


def make_tail(encoder: Encoder, side: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """`encoder.tail` for activations (B, C', side, side), with whatever weights the encoder has when it is called."""
    stages = list(encoder.stages[encoder.tail_from :])
    *blocks, head = stages
    parts: list[_Part] = []
    for block in (block for stage in blocks for block in stage.children()):
        if not _is_plain(block):
            return encoder.tail
        parts.append(_Block(block, side))
        side = parts[-1].side
    if not (len(stages) > 1 and isinstance(head, nn.Sequential) and isinstance(head[0], nn.Conv2d)):
        return encoder.tail
    conv, norm = head

    def tail(activations: torch.Tensor) -> torch.Tensor:
        images = len(activations)
        value = activations.flatten(2).transpose(0, 1).contiguous()
        if torch.is_autocast_enabled(activations.device.type):
            value = value.to(torch.get_autocast_dtype(activations.device.type))
        for part in parts:
            value = part(value)
        value = _pointwise(value, conv, norm)  # (C, B, places)
        return value.view(-1, images, side, side).transpose(0, 1)

    return tail


def _is_plain(block: nn.Module) -> bool:
    return (
        type(block) is InvertedResidual
        and isinstance(block.se, nn.Identity)
        and isinstance(block.aa, nn.Identity)
        and isinstance(block.drop_path, nn.Identity)
        and isinstance(block.bn1.act, nn.ReLU6)
        and isinstance(block.bn3.act, nn.Identity)
    )


class _Block:
    """An inverted residual block: expand, look at neighbours, project."""

    def __init__(self, block: InvertedResidual, side: int) -> None:
        self._block = block
        with torch.no_grad():
            scale, shift = _as_affine(block.bn2)
            kernels = block.conv_dw.weight * scale[:, None, None, None]  # (C, 1, k, k)
            # What a picture with a one in a single place becomes, for each place.
            places = side * side
            ones = torch.eye(places).view(places, 1, side, side)
            matrices = []
            for kernel in kernels.split(64):
                matrices.append(_depthwise(block.conv_dw, ones.expand(-1, len(kernel), -1, -1), kernel))
            matrix = torch.cat(matrices, dim=1)  # (places, C, side', side')
            self.side = matrix.shape[-1]
            self._matrix = matrix.flatten(2).transpose(0, 1).contiguous()  # (C, places, places')
            self._shift = shift[:, None, None]

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        """See _Part."""
        block = self._block
        if self._matrix.dtype != value.dtype:
            self._matrix, self._shift = self._matrix.to(value.dtype), self._shift.to(value.dtype)
        inner = _pointwise(value, block.conv_pw, block.bn1)
        inner = functional.hardtanh(torch.baddbmm(self._shift, inner, self._matrix), 0, 6, inplace=True)
        outer = _pointwise(inner, block.conv_pwl, block.bn3)
        return outer + value if block.has_skip else outer


def _depthwise(conv: nn.Conv2d, images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """What the depthwise convolution `conv` makes of `images` with other kernels (C, 1, k, k)."""
    size, stride = conv.kernel_size[0], conv.stride[0]
    if type(conv) is nn.Conv2d:
        padding = conv.padding[0]
        images = functional.pad(images, (padding,) * 4)
    else:  # timm's "same" convolution, padded as TensorFlow does it
        side = images.shape[-1]
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        images = functional.pad(images, (total // 2, total - total // 2) * 2)
    return functional.conv2d(images, kernels, stride=stride, groups=len(kernels))


def _pointwise(value: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
    """A 1 x 1 convolution, its normalisation and activation, of `value` (C, B, places)."""
    scale, shift = _as_affine(norm)
    weight = (conv.weight.flatten(1) * scale[:, None]).to(value.dtype)
    result = torch.addmm(shift[:, None].to(value.dtype), weight, value.flatten(1))
    if isinstance(norm.act, nn.ReLU6):
        result = functional.hardtanh(result, 0, 6, inplace=True)
    return result.view(-1, *value.shape[1:])


def _as_affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """What batch normalisation with fixed statistics multiplies with, and adds."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
