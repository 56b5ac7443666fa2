"""Images to input tensors of the encoder.

An image is stretched to a square, not cropped: the network sees all of it, and heatmaps cover all of it. Callers apply
orientation tags and convert to RGB.
"""

import io

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

# EfficientNet-Lite takes inputs in [-1, 1].
MEAN = 0.5
STD = 0.5


# The JPEG quality of Flickr8k's images, by their quantisation tables.
_STORED_QUALITY = 85


def as_stored(image: Image.Image, side: int) -> Image.Image:
    """Return `image` as a training set of small files stores it: stretched to `side` x `side` and compressed as JPEG.

    A network learns the traces of both and is less confident without them. An image of that size is returned as it is.
    """
    return image if image.size == (side, side) else Image.open(io.BytesIO(stored_jpeg(image, side)))


def stored_jpeg(image: Image.Image, side: int) -> bytes:
    """Return `image` as a JPEG file of `side` x `side` pixels."""
    file = io.BytesIO()
    stretched = Image.fromarray(to_pixels(image, side).permute(1, 2, 0).numpy())
    stretched.save(file, "JPEG", quality=_STORED_QUALITY, subsampling="4:2:0")
    return file.getvalue()


def to_pixels(image: Image.Image, size: int) -> torch.Tensor:
    """Stretch `image` to uint8 pixels (3, size, size).

    PyTorch computes Pillow's bicubic filter in a quarter of the time. A few values differ by 1.
    """
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).unsqueeze(0)
    return interpolate(pixels, (size, size), mode="bicubic", antialias=True).squeeze(0).contiguous()


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Normalise uint8 pixels (..., 3, S, S) to floats in [-1, 1]."""
    return pixels.float().div_(255).sub_(MEAN).div_(STD)
