"""Converts a Pillow image of any mode to sRGB, with transparency over white and without metadata.

Errors are Pillow's own; app/images/picture.py turns them into refusals.
"""

import io
import math
from array import array
from typing import Final, cast

from PIL import Image, ImageChops, ImageCms, TiffImagePlugin

# Image mode → the colour space that an ICC profile must have to be applied.
_PROFILE_SPACE: Final = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}
_INTEGER_WHITES: Final = (255, 1023, 4095, 65535)  # 8, 10, 12 and 16 bits
_FLOAT_WHITES: Final = (1.0, 255.0)
_PHOTOMETRIC_INTERPRETATION: Final = 262  # TIFF tag; 0: the smallest value is white
_SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def to_rgb(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Convert a loaded image to RGB of `size` (width, height in pixels; never larger than the image).

    The order makes the result correct and cheap: first to 8-bit samples, which may be averaged (palette indices may
    not), then to the smaller size, then all other conversions on few pixels. Pillow weights RGBA and LA by alpha while
    it resizes, so colours under alpha 0 do not bleed into their neighbours.
    """
    profile = image.info.get("icc_profile")
    samples = _to_8_bit(image)
    small = samples.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    rgb = _to_srgb(_over_white(small), profile)
    rgb.info = {}  # a resized image keeps the file's comments and profiles
    return rgb


def fit_colour_key(image: Image.Image, bits: int) -> None:
    """Scale the transparent colour of a PNG with `bits` per sample to 8 bits, as Pillow has scaled its pixels.

    16-bit grey keeps pixels and key; palettes have no key; for 1 bit, Pillow scales the key itself.
    """
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**bits - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Convert to a mode of 8-bit samples: L, LA, RGB, RGBA, CMYK, LAB or YCbCr."""
    match image.mode:
        case "L" | "RGB" if "transparency" in image.info:  # a colour key: one colour is transparent
            return image.convert(image.mode + "A")
        case "L" | "LA" | "RGB" | "RGBA" | "CMYK" | "LAB" | "YCbCr":
            return image
        case "1":
            return image.convert("LA" if "transparency" in image.info else "L")
        case "La":
            return image.convert("LA")
        case "P" | "PA":
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
        case "RGBa":
            return image.convert("RGBA")
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            return _grey_from_16_bit(image)
        case "I" | "F":
            return _grey_from_measurements(image)
        case _:  # HSV, RGBX and future modes
            return image.convert("RGB")


def _grey_from_16_bit(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey to L, or to LA if a PNG has a transparent value."""
    values = image.convert("I")  # 32-bit: the only mode that supports a table of 65,536 entries
    lowest, highest = cast("tuple[int, int]", values.getextrema())
    _, white = _black_and_white(lowest, highest, _INTEGER_WHITES)  # unsigned, so black is 0
    grey = values.point([round(min(value, white) * 255 / white) for value in range(65536)], "L")
    if _white_is_zero(image):
        grey = ImageChops.invert(grey)
    key = image.info.get("transparency")
    if key is not None:
        grey.putalpha(values.point([0 if value == key else 255 for value in range(65536)], "L"))
    return grey


def _grey_from_measurements(image: Image.Image) -> Image.Image:
    """Convert 32-bit integers or floats, which may contain NaN and infinities, to L."""
    if image.mode == "F":
        # One NaN spoils Pillow's extrema, so the range comes from a sample of unmixed pixels.
        sparse = (min(image.width, 512), min(image.height, 512))
        sample = array("f", image.resize(sparse, Image.Resampling.NEAREST).tobytes())
        finite = [value for value in sample if math.isfinite(value)] or [0.0]
        black, white = _black_and_white(min(finite), max(finite), _FLOAT_WHITES)
    else:
        lowest, highest = cast("tuple[int, int]", image.getextrema())
        black, white = _black_and_white(lowest, highest, _INTEGER_WHITES)
    scale = 255 / (white - black)
    offset = 0.5 - black * scale
    grey = image.point(lambda value: value * scale + offset).convert("L")  # clips to 0–255; NaN becomes 0
    return ImageChops.invert(grey) if _white_is_zero(image) else grey


def _black_and_white(lowest: float, highest: float, whites: tuple[float, ...]) -> tuple[float, float]:
    """Choose the values of black and white for samples between `lowest` and `highest`.

    Scanners and microscopes store 8, 10 or 12 bits in 16-bit samples without declaring it; a maximum of 4095 of 65535
    would look black. So white is the first of `whites` that is not below the brightest sample. The range of negative or
    larger values is stretched.
    """
    if lowest >= 0:
        for white in whites:
            if highest <= white:
                return 0, white
    return lowest, highest if highest > lowest else lowest + abs(lowest)


def _white_is_zero(image: Image.Image) -> bool:
    """Tell whether the smallest value of a TIFF is white. Pillow applies this only up to 8 bits."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return bool(image.tag_v2.get(_PHOTOMETRIC_INTERPRETATION) == 0)


def _over_white(image: Image.Image) -> Image.Image:
    """Composite LA and RGBA over white, which gives L and RGB; return other modes unchanged."""
    if image.mode not in ("LA", "RGBA"):
        return image
    canvas = Image.new(image.mode.removesuffix("A"), image.size, "white")
    canvas.paste(image.convert(canvas.mode), mask=image.getchannel("A"))
    return canvas


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert L, RGB, CMYK, LAB or YCbCr to sRGB: through the file's ICC profile if it fits, otherwise directly.

    CMYK needs no inversion here: Pillow, like Chrome, Firefox and Safari, treats every CMYK JPEG as inverted, with or
    without Adobe's APP14 marker.
    """
    if image.mode == "YCbCr":
        image = image.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space.strip() == _PROFILE_SPACE[image.mode]:
                converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
                if converted is not None:
                    return converted
        except Exception:  # a broken profile costs colour accuracy, not the image
            pass
    return image.convert("RGB")
