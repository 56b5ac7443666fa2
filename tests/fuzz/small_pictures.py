"""Small valid picture files of every accepted format, in many variants, the same every time."""

import io
from functools import cache

from PIL import ExifTags, Image, ImageCms

SIDE = 24  # pixels: small, so that many inputs can be tried


@cache
def small_pictures() -> dict[str, bytes]:
    """Return files by name. The part before the first space is the format."""
    picture = _picture()
    exif, profile = _exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frames = {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)], "duration": 100}
    grey, palette, alpha = picture.convert("L"), picture.quantize(16), picture.copy()
    alpha.putalpha(grey)
    return {
        "JPEG": _encoded(picture, "JPEG", exif=exif, comment=b"a comment"),
        "JPEG progressive": _encoded(picture, "JPEG", progressive=True, icc_profile=profile),
        "JPEG grey": _encoded(grey, "JPEG", optimize=True),
        "JPEG CMYK": _encoded(picture.convert("CMYK"), "JPEG"),
        "JPEG restarts": _encoded(picture, "JPEG", restart_marker_blocks=1, subsampling=0),
        "JPEG MPO": _encoded(picture, "MPO", save_all=True, append_images=[picture.rotate(90)]),
        "PNG": _encoded(picture, "PNG", exif=exif, icc_profile=profile, dpi=(72, 72)),
        "PNG alpha": _encoded(alpha, "PNG"),
        "PNG palette": _encoded(palette, "PNG", transparency=3),
        "PNG key": _encoded(picture, "PNG", transparency=(1, 2, 3)),
        "PNG 1": _encoded(grey.convert("1"), "PNG"),
        "PNG 16": _encoded(grey.convert("I").point(lambda value: value * 257).convert("I;16"), "PNG"),
        "PNG animated": _encoded(picture, "PNG", **frames),
        "GIF": _encoded(palette, "GIF", transparency=2, comment=b"a comment"),
        "GIF animated": _encoded(picture, "GIF", **frames, loop=0),
        "GIF interlaced": _encoded(palette, "GIF", interlace=1),
        "BMP": _encoded(picture, "BMP"),
        "BMP palette": _encoded(palette, "BMP"),
        "BMP 1": _encoded(grey.convert("1"), "BMP"),
        "BMP alpha": _encoded(alpha, "BMP"),
        "TIFF": _encoded(picture, "TIFF", exif=exif),
        "TIFF pages": _encoded(picture, "TIFF", **frames),
        "TIFF float": _encoded(grey.convert("F"), "TIFF"),
        "TIFF big": _encoded(alpha, "TIFF", big_tiff=True),
        "TIFF CMYK": _encoded(picture.convert("CMYK"), "TIFF", compression="tiff_adobe_deflate", icc_profile=profile),
        "TIFF Lab": _encoded(picture.convert("LAB"), "TIFF"),
        **{
            f"TIFF {compression}": _encoded(picture, "TIFF", compression=compression)
            for compression in ("tiff_lzw", "jpeg", "packbits", "zstd", "lzma")
        },
        **{
            f"TIFF {compression}": _encoded(grey.convert("1"), "TIFF", compression=compression)
            for compression in ("group3", "group4", "tiff_ccitt")
        },
        "WebP": _encoded(picture, "WEBP", exif=exif, icc_profile=profile),
        "WebP lossless": _encoded(alpha, "WEBP", lossless=True),
        "WebP alpha": _encoded(alpha, "WEBP"),
        "WebP animated": _encoded(alpha, "WEBP", **frames),
        "AVIF": _encoded(picture, "AVIF", exif=exif, icc_profile=profile),
        "AVIF alpha": _encoded(alpha, "AVIF", speed=9),
        "AVIF animated": _encoded(picture, "AVIF", **frames, speed=9),
    }


def _picture() -> Image.Image:
    """Return a picture with edges, gradients and many colours."""
    slope = Image.radial_gradient("L").resize((SIDE, SIDE))
    picture = Image.merge("RGB", [slope.rotate(angle) for angle in (0, 40, 80)])
    picture.paste((200, 30, 60), (0, 0, SIDE // 3, SIDE // 2))
    return picture


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "a maker"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:01:01 00:00:00"
    return exif


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
