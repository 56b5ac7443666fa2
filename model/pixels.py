"""From a picture to the encoder's input tensor. In: an upright RGB PIL image; out: a normalised square tensor.

The picture is stretched to the square, not cropped: the network sees all of it, and the heatmaps cover all of it.
It must not know of files, orientation tags or colour modes other than RGB: whoever calls has dealt with those.
"""

import numpy as np
import torch
from PIL import Image

# EfficientNet-Lite was trained on inputs in [-1, 1].
MEAN = 0.5
STD = 0.5


def to_pixels(image: Image.Image, size: int) -> torch.Tensor:
    """Stretch `image` to `size` x `size` pixels: uint8, (3, size, size). Small enough to keep and to send."""
    stretched = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(stretched)).permute(2, 0, 1).contiguous()


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels (..., 3, S, S) to floats around zero, as the encoder wants them."""
    return pixels.float().div_(255).sub_(MEAN).div_(STD)
