"""Views of a training image: the image itself, its mirror image, and random crops.

A view depends on (seed, image, number) alone, so activations that are computed from it can be kept on disk.
"""

import random
import re

from PIL import Image, ImageEnhance, ImageOps

_MIRROR_WORDS = {"left": "right", "right": "left"}
_LEFT_RIGHT = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def is_mirrored(view: int) -> bool:
    """Return whether a view is a mirror image. Every second one is."""
    return view % 2 == 1


def view_image(image: Image.Image, seed: int, name: str, view: int) -> Image.Image:
    """Make view number `view` of `image`: 0 is the image, 1 its mirror image, later ones are cropped and recoloured."""
    if view >= 2:
        chance = random.Random(f"{seed} {name} {view}")
        image = _crop(image, chance)
        for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhancer(image).enhance(chance.uniform(0.8, 1.2))
    return ImageOps.mirror(image) if is_mirrored(view) else image


def _crop(image: Image.Image, chance: random.Random) -> Image.Image:
    """Cut out a window of at least 60 % of the area. Captions describe the whole image, so crops stay large."""
    width, height = image.size
    area, aspect = chance.uniform(0.6, 1.0), chance.uniform(0.85, 1.18)
    w = min(width, round(width * (area * aspect) ** 0.5))
    h = min(height, round(height * (area / aspect) ** 0.5))
    left, top = chance.randint(0, width - w), chance.randint(0, height - h)
    return image.crop((left, top, left + w, top + h)).resize(image.size, Image.Resampling.BICUBIC)


def view_caption(caption: str, view: int) -> str:
    """Return the caption of a view: in a mirror image "left" and "right" change places."""
    if not is_mirrored(view):
        return caption
    return _LEFT_RIGHT.sub(lambda match: _MIRROR_WORDS[match.group().lower()], caption)
