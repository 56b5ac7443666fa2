"""Handmade image files, and checks of the images decoded from them."""

import io
import struct
import zlib

import pytest
from PIL import ExifTags, Image, ImageChops

from app.images.limits import ImageLimits
from app.images.picture import (
    ACCEPTED,
    PictureRefused,
    WorkingImage,
    prepare,
)

RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)
LIMITS = ImageLimits()
LOSSLESS = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}, "AVIF": {"quality": 95}}


def encode(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **{**LOSSLESS.get(name, {}), **options})
    return buffer.getvalue()


def quadrants(width: int = 64, height: int = 32) -> Image.Image:
    """Red, green / blue, yellow."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def open_working(working: WorkingImage) -> Image.Image:
    image = Image.open(io.BytesIO(working.data))
    image.load()
    assert image.format == "JPEG"
    assert image.mode == "RGB"
    return image


def shown(data: bytes, limits: ImageLimits = LIMITS) -> Image.Image:
    return open_working(prepare(data, limits))


def assert_near(pixel: object, colour: tuple[int, ...], tolerance: int = 6) -> None:
    assert isinstance(pixel, tuple)
    assert all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True)), f"{pixel} is not {colour}"


def assert_quadrants(image: Image.Image, tolerance: int = 6) -> None:
    w, h = image.size
    for (x, y), colour in {(1, 1): RED, (3, 1): GREEN, (1, 3): BLUE, (3, 3): YELLOW}.items():
        assert_near(image.getpixel((w * x // 4, h * y // 4)), colour, tolerance)


def refusal(data: bytes, limits: ImageLimits = LIMITS) -> PictureRefused:
    with pytest.raises(PictureRefused) as caught:
        prepare(data, limits)
    assert caught.value.detail
    assert caught.value.detail.endswith(".")
    return caught.value


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG of raw rows (each begins with its filter byte); `extra` are chunks between IHDR and IDAT."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def tiff(width: int, height: int, samples: bytes, order: str = "<", **tags: int) -> bytes:
    """An uncompressed one-strip TIFF; order is "<" or ">". `dng` and `sub_ifds` are flags."""
    per_pixel, bits = tags.get("channels", 1), tags.get("bits", 16)
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, tags.get("photometric", 1)),
        (273, 4, 0), (277, 3, per_pixel), (278, 4, height), (279, 4, len(samples)), (284, 3, tags.get("planar", 1)),
        *([(338, 3, tags["extra"])] if "extra" in tags else []), (339, 3, tags.get("sample_format", 1)),
        *([(254, 4, tags["subfile"])] if "subfile" in tags else []),
        *([(330, 4, 8)] if "sub_ifds" in tags else []), *([(50706, 4, 1)] if "dng" in tags else []),
    ]  # fmt: skip
    values_start = 8 + 2 + 12 * len(entries) + 4  # offset of values that are too long for the directory
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, value in sorted(entries):
        value = values_start + 2 * per_pixel if tag == 273 else value
        packed = struct.pack(order + "H2x" if kind == 3 else order + "I", value)
        count = 1
        if tag == 258 and per_pixel > 2:
            count, packed = per_pixel, struct.pack(order + "I", values_start)
        directory += struct.pack(order + "HHI", tag, kind, count) + packed
    magic = b"II*\0" if order == "<" else b"MM\0*"
    depths = struct.pack(order + "H", bits) * per_pixel
    return magic + struct.pack(order + "I", 8) + directory + bytes(4) + depths + samples


def bmp(bits: int, rows: bytes, compression: int = 0, tables: bytes = b"") -> bytes:
    """An 8 × 8 BMP; `tables` are colour masks, then the palette."""
    start = 14 + 40 + len(tables)
    header = b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start)
    return header + struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, bits, compression, len(rows), 0, 0, 0, 0) + tables + rows


def ycck(image: Image.Image) -> bytes:
    """A CMYK JPEG as Photoshop writes it: inverted inks, the first three as YCbCr, with Adobe's marker."""
    cyan, magenta, yellow, black = image.convert("CMYK").split()
    inks = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    # Pillow inverts the inks of a CMYK file and marks it as CMYK.
    data = bytearray(encode(Image.merge("CMYK", (*map(ImageChops.invert, inks), black)), "JPEG"))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def greys(data: bytes) -> list[int]:
    """Return the greys of a picture of one row of 8 × 8 blocks."""
    image = shown(data)
    return [image.getpixel((x, 4))[0] for x in range(4, image.width, 8)]


def blocks(values: list[float], code: str) -> tuple[int, int, bytes]:
    """Width, height and samples of one row of 8 × 8 blocks; code is a struct format such as "<H"."""
    row = b"".join(struct.pack(code, value) * 8 for value in values)
    return 8 * len(values), 8, row * 8


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def stored_as(orientation: int) -> Image.Image:
    """The quadrants as a camera with that EXIF orientation stores them."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)  # fmt: skip
    return quadrants() if undo is None else quadrants().transpose(undo)


def seeds() -> dict[str, bytes]:
    """One small valid file of each format."""
    noise = Image.merge("RGB", [Image.radial_gradient("L").resize((48, 40)).rotate(a) for a in (0, 40, 80)])
    names = [name.upper() for name in ACCEPTED]
    files = {name: encode(noise, name, **({"exif": exif_of(6)} if name != "BMP" else {})) for name in names}
    files["TIFF-LZW"] = encode(noise, "TIFF", compression="tiff_lzw")
    files["MPO"] = encode(noise, "MPO", save_all=True, append_images=[noise])
    files["CMYK"] = encode(noise.convert("CMYK"), "JPEG", icc_profile=b"not a profile")
    return files
