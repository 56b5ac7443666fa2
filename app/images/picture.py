"""A picture: the bytes that a stranger uploaded → a small, upright, plain RGB working image, or a refusal.

In: bytes, and the limits. Out: a WorkingImage, or PictureRefused; nothing else, whatever the bytes are.
These are pure functions for a confined child process (decoder.py): they know Pillow and must not know HTTP,
asyncio, Redis or the model, and they import nothing heavy, because every child pays for it when it starts.
"""

import io
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# Importing a format's plugin is what registers it; otherwise Image.open would import all of Pillow's forty.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401  phones write MPO, a JPEG followed by more JPEGs; it is opened as JPEG
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,
)

from app.images.colour import fit_colour_key, to_rgb

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
_BMP_HEADER_SIZES: Final = (12, 16, 40, 52, 56, 64, 108, 124)  # "BM" alone also begins plain text
_TIFF_MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF
_HEIC_BRANDS: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_DNG_VERSION, _NEW_SUBFILE_TYPE, _SUB_IFDS = 50706, 254, 330  # TIFF tags
_UPRIGHT: Final = {  # EXIF orientation → what turns the picture upright; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Refusal(StrEnum):
    """Why a picture was refused; the values are part of the HTTP API."""

    UNSUPPORTED_FORMAT = "unsupported-format"
    UNDECODABLE_IMAGE = "undecodable-image"
    TOO_MANY_PIXELS = "too-many-pixels"


class PictureRefused(Exception):
    """The upload will not become a working image. `detail` is one sentence for the person who sent it."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(reason, detail)  # both, or it could not be unpickled in another process
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What an upload may cost, and how large the working image may be."""

    max_pixels: int = 64_000_000  # width × height of the upload
    working_side: int = 768  # pixels of the longer side of the working image


@dataclass(frozen=True, slots=True)
class WorkingImage:
    """All that the rest of Wordlight sees of an upload."""

    data: bytes  # JPEG encoded by us: upright RGB without metadata, longer side ≤ working_side, never enlarged
    width: int  # of the upload, turned upright, in pixels: what a browser calls naturalWidth
    height: int


def prepare(data: bytes, limits: PictureLimits) -> WorkingImage:
    """Makes the working image of an upload; of an animation or a file of many pages, of the first.

    Raises PictureRefused and nothing else. Not thread-safe: Pillow's limits and Python's warnings are global.
    """
    name = identify(data)
    if name is None:
        raise _unsupported(_what_it_is_instead(data))
    Image.MAX_IMAGE_PIXELS = (limits.max_pixels + 1) // 2  # Pillow raises above twice this, only warns below
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the pool is the parallelism, and threads cost address space
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mostly about metadata that we drop anyway
            return _decode(data, name, limits)
    except PictureRefused:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(limits) from error
    except MemoryError as error:
        detail = f"Decoding this {name} picture needs too much memory; a smaller version of it may work."
        raise PictureRefused(Refusal.UNDECODABLE_IMAGE, detail) from error
    except Exception as error:  # Pillow and its codecs raise a dozen kinds
        detail = f"The file begins like a {name} picture, but it is damaged, cut short or of an unusual kind."
        raise PictureRefused(Refusal.UNDECODABLE_IMAGE, detail) from error


def identify(data: bytes) -> str | None:
    """Returns the name in ACCEPTED of the format that the first bytes announce, or None."""
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
    """Returns the brands of an ISO media file (AVIF, HEIC, MP4 …): the major one and the compatible ones."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 256, len(data))
    return {data[8:12], *(data[start : start + 4] for start in range(16, end, 4))}


def _what_it_is_instead(data: bytes) -> str:
    """Says in a few words why bytes that `identify` does not know are refused."""
    if not data:
        return "The file is empty"
    if _HEIC_BRANDS & _brands(data):
        return "HEIC pictures are not supported, but can be saved as JPEG"
    return "The file is not a picture in a supported format"


def _unsupported(why: str) -> PictureRefused:
    detail = f"{why}; {', '.join(ACCEPTED[:-1])} and {ACCEPTED[-1]} are accepted."
    return PictureRefused(Refusal.UNSUPPORTED_FORMAT, detail)


def _too_many_pixels(limits: PictureLimits) -> PictureRefused:
    detail = f"The picture has too many pixels; at most {limits.max_pixels / 1e6:g} million are accepted."
    return PictureRefused(Refusal.TOO_MANY_PIXELS, detail)


def _decode(data: bytes, name: str, limits: PictureLimits) -> WorkingImage:
    """Decodes bytes that announce themselves as `name`. Raises PictureRefused, and whatever Pillow raises."""
    with Image.open(io.BytesIO(data), formats=[name]) as image:  # reads the header only
        width, height = image.size
        if width * height > limits.max_pixels:
            raise _too_many_pixels(limits)
        if width < 1 or height < 1:
            raise ValueError("no pixels")
        if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_camera_raw(image):
            raise _unsupported("Camera raw files are not supported")
        if name == "JPEG":  # libjpeg decodes at 1/2, 1/4 or 1/8 for less: the last step not below the target
            image.draft(None, _fit((width, height), limits.working_side))
        covered = image.tile[0].extents if name == "GIF" else None  # where in the picture its first frame lies
        image.load()
        if name == "PNG":
            fit_colour_key(image, bits=data[24])  # the header has a fixed place in every PNG
        whole = _on_canvas(image, covered) if covered not in (None, (0, 0, *image.size)) else image
        rgb = to_rgb(whole, _fit(image.size, limits.working_side))
        orientation = _orientation(image)
        if name == "TIFF":
            width, height = image.size  # Pillow itself turned it upright while loading
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    if orientation >= 5:
        width, height = height, width
    encoded = io.BytesIO()
    rgb.save(encoded, "JPEG", quality=_WORKING_QUALITY, subsampling=0)
    return WorkingImage(encoded.getvalue(), width, height)


def _is_camera_raw(image: TiffImagePlugin.TiffImageFile) -> bool:
    """True for DNG, NEF, ARW and their like: TIFFs whose page is a thumbnail, with the photograph in a page below."""
    kind = image.tag_v2.get(_NEW_SUBFILE_TYPE)
    is_thumbnail = isinstance(kind, int) and bool(kind & 1)
    return _DNG_VERSION in image.tag_v2 or (is_thumbnail and _SUB_IFDS in image.tag_v2)


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Shrinks (width, height) in pixels, at least 1 each, until the longer one is at most `side`."""
    longer = max(size)
    if longer <= side:
        return size
    return max(1, round(size[0] * side / longer)), max(1, round(size[1] * side / longer))


def _on_canvas(image: Image.Image, covered: tuple[int, int, int, int]) -> Image.Image:
    """Makes clear what the first frame of a GIF leaves uncovered; Pillow fills it with palette entry 0."""
    canvas = Image.new("RGBA", image.size)
    canvas.paste(image.convert("RGBA").crop(covered), covered)
    return canvas


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1–8, that a loaded image still needs; 1 if it has none or an odd one.

    Only EXIF counts, as in browsers: XMP's copy of the tag is ignored. For AVIF, Pillow puts the rotation of
    the container here, which overrules EXIF.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # a picture with broken EXIF is still a picture
        return 1
    return orientation if orientation in range(1, 9) else 1
