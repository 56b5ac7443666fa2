"""Turns the bytes of an untrusted image file into a working image: a small, upright, plain RGB JPEG.

These functions run in the child processes of app/images/decoder.py. This module imports nothing heavy, because every
child imports it when it starts.
"""

import io
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# Importing a plugin registers its format. Without these imports, Image.open would import all of Pillow's forty.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401  phones write MPO, a JPEG followed by more JPEGs, which opens as JPEG
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,
)

from app.images.colour import fit_colour_key, to_rgb
from app.images.limits import ImageLimits

ACCEPTED: Final = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "TIFF",
    *(["WebP"] if WebPImagePlugin.SUPPORTED else []),
    *(["AVIF"] if AvifImagePlugin.SUPPORTED else []),
)
_WORKING_QUALITY: Final = 92  # JPEG quality: no visible loss, about a tenth of the raw size
_BMP_HEADER_SIZES: Final = (12, 16, 40, 52, 56, 64, 108, 124)  # plain text can begin with "BM" too
_TIFF_MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF
_HEIC_BRANDS: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_DNG_VERSION, _NEW_SUBFILE_TYPE, _SUB_IFDS = 50706, 254, 330  # TIFF tags
_UPRIGHT: Final = {  # EXIF orientation → the transposition that turns the image upright; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Refusal(StrEnum):
    """Why an upload is refused. The values are kinds of problems in the API."""

    UNSUPPORTED_FORMAT = "unsupported-format"
    UNDECODABLE_IMAGE = "undecodable-image"
    TOO_MANY_PIXELS = "too-many-pixels"


class PictureRefused(Exception):
    """The upload cannot become a working image. `detail` is one sentence for the person who sent it."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it can be unpickled in another process
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class WorkingImage:
    """The only form in which the rest of Wordlight sees an upload."""

    data: bytes  # our own JPEG: upright RGB without metadata, longer side ≤ working_side, never enlarged
    width: int  # of the upright upload, in pixels; a browser's naturalWidth
    height: int


def prepare(data: bytes, limits: ImageLimits) -> WorkingImage:
    """Make the working image of an upload; of an animation or a multi-page file, of its first frame.

    Raises PictureRefused and nothing else. Not thread-safe: Pillow's limits and Python's warnings are global.
    """
    name = identify(data)
    if name is None:
        raise _unsupported(_describe_unknown(data))
    Image.MAX_IMAGE_PIXELS = (limits.max_pixels + 1) // 2  # Pillow warns above this and raises above twice this
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the pool runs in parallel already, and threads use address space
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mostly about metadata, which is dropped
            return _decode(data, name, limits)
    except PictureRefused:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(limits) from error
    except MemoryError as error:
        detail = f"Decoding this {name} picture needs too much memory. A smaller version may work."
        raise PictureRefused(Refusal.UNDECODABLE_IMAGE, detail) from error
    except Exception as error:  # Pillow and its codecs raise many kinds of errors
        detail = f"The file begins like a {name} picture, but it is damaged, truncated or of an unsupported kind."
        raise PictureRefused(Refusal.UNDECODABLE_IMAGE, detail) from error


def identify(data: bytes) -> str | None:
    """Tell the format of a file from its first bytes: a name in ACCEPTED, or None."""
    name = None
    if data.startswith(b"\xff\xd8\xff"):
        name = "JPEG"
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        name = "PNG"
    elif data.startswith((b"GIF87a", b"GIF89a")):
        name = "GIF"
    elif data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        name = "BMP"
    elif data.startswith(_TIFF_MAGIC):
        name = "TIFF"
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        name = "WebP"
    elif {b"avif", b"avis"} & _brands(data):
        name = "AVIF"
    return name if name in ACCEPTED else None


def _brands(data: bytes) -> set[bytes]:
    """The major and compatible brands of an ISO media file (AVIF, HEIC, MP4 …); empty for any other file."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 256, len(data))
    return {data[8:12], *(data[start : start + 4] for start in range(16, end, 4))}


def _describe_unknown(data: bytes) -> str:
    """Explain why a file of an unknown format is refused."""
    if not data:
        return "The file is empty"
    if _HEIC_BRANDS & _brands(data):
        return "HEIC pictures are not supported; save them as JPEG"
    return "The file is not a picture in a supported format"


def _unsupported(why: str) -> PictureRefused:
    detail = f"{why}. Supported formats: {', '.join(ACCEPTED)}."
    return PictureRefused(Refusal.UNSUPPORTED_FORMAT, detail)


def _too_many_pixels(limits: ImageLimits) -> PictureRefused:
    detail = f"The picture has more than {limits.max_pixels / 1e6:g} million pixels."
    return PictureRefused(Refusal.TOO_MANY_PIXELS, detail)


def _decode(data: bytes, name: str, limits: ImageLimits) -> WorkingImage:
    """Decode a file of format `name`. Raises PictureRefused and whatever Pillow raises."""
    with Image.open(io.BytesIO(data), formats=[name]) as image:  # reads the header only
        width, height = image.size
        if width * height > limits.max_pixels:
            raise _too_many_pixels(limits)
        if width < 1 or height < 1:
            raise ValueError("no pixels")
        if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_camera_raw(image):
            raise _unsupported("Camera raw files are not supported")
        if name == "JPEG":  # libjpeg decodes faster at 1/2, 1/4 or 1/8: the smallest that is not below the target
            image.draft(None, _fit((width, height), limits.working_side))
        covered = image.tile[0].extents if name == "GIF" else None  # the region of its first frame
        image.load()
        if name == "PNG":
            fit_colour_key(image, bits=data[24])  # the bit depth is at a fixed offset
        whole = _on_canvas(image, covered) if covered not in (None, (0, 0, *image.size)) else image
        rgb = to_rgb(whole, _fit(image.size, limits.working_side))
        orientation = _orientation(image)
        if name == "TIFF":
            width, height = image.size  # Pillow turned it upright while loading
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    if orientation >= 5:
        width, height = height, width
    encoded = io.BytesIO()
    rgb.save(encoded, "JPEG", quality=_WORKING_QUALITY, subsampling=0)
    return WorkingImage(encoded.getvalue(), width, height)


def _is_camera_raw(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Tell whether a TIFF is a camera raw file (DNG, NEF, ARW …): its first page is a thumbnail of a photograph."""
    kind = image.tag_v2.get(_NEW_SUBFILE_TYPE)
    is_thumbnail = isinstance(kind, int) and bool(kind & 1)
    return _DNG_VERSION in image.tag_v2 or (is_thumbnail and _SUB_IFDS in image.tag_v2)


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Scale (width, height) down, to at least 1 pixel each, until the longer side is at most `side`."""
    longer = max(size)
    if longer <= side:
        return size
    return max(1, round(size[0] * side / longer)), max(1, round(size[1] * side / longer))


def _on_canvas(image: Image.Image, covered: tuple[int, int, int, int]) -> Image.Image:
    """Make transparent what the first frame of a GIF leaves uncovered; Pillow fills it with palette entry 0."""
    canvas = Image.new("RGBA", image.size)
    canvas.paste(image.convert("RGBA").crop(covered), covered)
    return canvas


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1–8, that still has to be applied to a loaded image; 1 if it is missing or invalid.

    As in browsers, the orientation in XMP is ignored. For AVIF, Pillow stores the container's rotation here, which
    takes precedence over EXIF.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # an image with broken EXIF is usable
        return 1
    return orientation if orientation in range(1, 9) else 1
