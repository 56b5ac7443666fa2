"""From a picture to the encoder's input tensor. In: an upright RGB PIL image; out: a normalised square tensor.

The picture is stretched to the square, not cropped: the network sees all of it, and the heatmaps cover all of it.
It must not know of files, orientation tags or colour modes other than RGB: whoever calls has dealt with those.
"""

import io

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

# EfficientNet-Lite was trained on inputs in [-1, 1].
MEAN = 0.5
STD = 0.5


# How Flickr8k's images are compressed, to judge by their quantisation tables.
_STORED_QUALITY = 85


def as_stored(image: Image.Image, side: int) -> Image.Image:
    """`image` as a training set of small files would hold it: stretched to `side` x `side`, and a JPEG.

    A network learns the traces of both with everything else, and is less sure of pictures without them. An image of
    that size is taken to have been through it.
    """
    return image if image.size == (side, side) else Image.open(io.BytesIO(stored_jpeg(image, side)))


def stored_jpeg(image: Image.Image, side: int) -> bytes:
    """The file of `image` in such a training set."""
    file = io.BytesIO()
    stretched = Image.fromarray(to_pixels(image, side).permute(1, 2, 0).numpy())
    stretched.save(file, "JPEG", quality=_STORED_QUALITY, subsampling="4:2:0")
    return file.getvalue()


def to_pixels(image: Image.Image, size: int) -> torch.Tensor:
    """Stretch `image` to `size` x `size` pixels: uint8, (3, size, size). Small enough to keep and to send.

    PyTorch computes what Pillow's bicubic filter does, but for one step of brightness in a few places, and takes a
    quarter of the time.
    """
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).unsqueeze(0)
    return interpolate(pixels, (size, size), mode="bicubic", antialias=True).squeeze(0).contiguous()


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels (..., 3, S, S) to floats around zero, as the encoder wants them."""
    return pixels.float().div_(255).sub_(MEAN).div_(STD)
