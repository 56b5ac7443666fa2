"""Every kind of upload that must be turned into a working image, or refused. All files are made here."""

import base64
import io
import math
import pickle
import random
import struct
import zlib

import pytest
from PIL import ExifTags, Image, ImageChops, ImageCms

from app.images.limits import ImageLimits
from app.images.picture import (
    ACCEPTED,
    PictureRefused,
    Refusal,
    WorkingImage,
    identify,
    prepare,
)

LIMITS = ImageLimits()
RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)
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
    """An uncompressed one-strip TIFF; order is "<" or ">". Of the tags, `dng` and `sub_ifds` need only be there."""
    per_pixel, bits = tags.get("channels", 1), tags.get("bits", 16)
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, tags.get("photometric", 1)),
        (273, 4, 0), (277, 3, per_pixel), (278, 4, height), (279, 4, len(samples)), (284, 3, tags.get("planar", 1)),
        *([(338, 3, tags["extra"])] if "extra" in tags else []), (339, 3, tags.get("sample_format", 1)),
        *([(254, 4, tags["subfile"])] if "subfile" in tags else []),
        *([(330, 4, 8)] if "sub_ifds" in tags else []), *([(50706, 4, 1)] if "dng" in tags else []),
    ]  # fmt: skip
    many = 8 + 2 + 12 * len(entries) + 4  # where what is too long for the directory begins
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, value in sorted(entries):
        value = many + 2 * per_pixel if tag == 273 else value
        packed = struct.pack(order + "H2x" if kind == 3 else order + "I", value)
        count = 1
        if tag == 258 and per_pixel > 2:
            count, packed = per_pixel, struct.pack(order + "I", many)
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
    """A JPEG as Photoshop writes CMYK: inks inverted, the first three of them as YCbCr, and a marker that says so."""
    cyan, magenta, yellow, black = image.convert("CMYK").split()
    inks = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    # Pillow inverts all that it writes as CMYK, and calls it so.
    data = bytearray(encode(Image.merge("CMYK", (*map(ImageChops.invert, inks), black)), "JPEG"))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def greys(data: bytes) -> list[int]:
    """The greys of a picture that is one row of 8 × 8 blocks."""
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "WEBP", "PNG", "TIFF", "AVIF"])
def test_exif_orientation_is_applied_once(name: str, orientation: int) -> None:
    working = prepare(encode(stored_as(orientation), name, exif=exif_of(orientation)), LIMITS)
    assert (working.width, working.height) == (64, 32)
    image = open_working(working)
    assert image.size == (64, 32)
    assert_quadrants(image, 12)


def test_orientation_of_a_large_photograph_that_is_decoded_at_reduced_scale() -> None:
    big = encode(quadrants(4000, 2000).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif_of(6))
    working = prepare(big, LIMITS)
    assert (working.width, working.height) == (4000, 2000)
    image = open_working(working)
    assert image.size == (768, 384)
    assert_quadrants(image)


def test_tiff_compressed_and_rotated() -> None:
    assert_quadrants(shown(encode(stored_as(8), "TIFF", exif=exif_of(8), compression="tiff_lzw")))


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage" * 9])
def test_broken_exif_costs_nothing(exif: bytes) -> None:
    for name in ("JPEG", "PNG", "WEBP"):
        assert_quadrants(shown(encode(quadrants(), name, exif=exif)))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_impossible_orientation_is_ignored(value: int) -> None:
    assert_quadrants(shown(encode(quadrants(), "JPEG", exif=exif_of(value))))


def test_xmp_orientation_is_ignored_as_browsers_do() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert prepare(encode(quadrants(), "JPEG", xmp=xmp), LIMITS).width == 64


def test_working_image_is_bounded_plain_and_never_enlarged() -> None:
    options = {"exif": exif_of(1), "comment": b"secret place", "icc_profile": ImageCms.createProfile("sRGB")}
    options["icc_profile"] = ImageCms.ImageCmsProfile(options["icc_profile"]).tobytes()
    small = open_working(prepare(encode(quadrants(30, 20), "JPEG", **options), LIMITS))
    assert small.size == (30, 20)
    assert not {"exif", "comment", "icc_profile", "xmp"} & small.info.keys()
    assert shown(encode(quadrants(900, 300), "PNG"), ImageLimits(working_side=90)).size == (90, 30)


@pytest.mark.parametrize("size", [(60000, 1), (1, 60000), (20000, 3)])
@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF"])
def test_extreme_shapes(name: str, size: tuple[int, int]) -> None:
    working = prepare(encode(Image.new("RGB", size, BLUE), name), LIMITS)
    assert (working.width, working.height) == size
    image = open_working(working)
    assert max(image.size) == 768
    assert min(image.size) == 1
    assert_near(image.getpixel((0, 0)), BLUE)


@pytest.mark.parametrize("hidden", [RED, (0, 0, 0)])
def test_alpha_is_laid_over_white_and_hides_what_it_hides(hidden: tuple[int, int, int]) -> None:
    image = Image.new("RGBA", (1600, 1600), (*hidden, 0))
    image.paste((*BLUE, 255), (0, 0, 800, 1600))
    image.paste((*BLUE, 128), (0, 1200, 800, 1600))
    for name in ("PNG", "WEBP", "TIFF"):
        result = shown(encode(image, name))  # libwebp itself may drop hidden colours
        assert_near(result.getpixel((100, 100)), BLUE)
        assert_near(result.getpixel((100, 700)), (127, 127, 255))
        for x in range(385, 768, 30):  # from the very edge on: nothing bleeds
            assert_near(result.getpixel((x, 300)), WHITE, 12)
        column = [result.getpixel((x, 300)) for x in range(380, 390)]
        assert all(pixel[2] > 240 for pixel in column), "the edge mixes blue and white, nothing hidden"


def test_grey_with_alpha_and_palette_with_alpha() -> None:
    grey = Image.merge("LA", (Image.new("L", (32, 32), 10), Image.new("L", (32, 32), 0)))
    assert_near(shown(encode(grey, "PNG")).getpixel((9, 9)), WHITE)
    palette = quadrants().quantize(4)
    red = palette.getpixel((0, 0))
    result = shown(encode(palette, "PNG", transparency=red))
    assert_near(result.getpixel((10, 8)), WHITE)
    assert_near(result.getpixel((50, 8)), GREEN)
    alphas = bytes(128 if index == red else 255 for index in range(4))
    assert_near(shown(encode(palette, "PNG", transparency=alphas)).getpixel((10, 8)), (255, 127, 127))
    assert_near(shown(encode(palette, "GIF", transparency=red)).getpixel((10, 8)), WHITE)


def test_png_colour_keys() -> None:
    assert_near(shown(encode(quadrants(), "PNG", transparency=RED)).getpixel((10, 8)), WHITE)
    assert_near(shown(encode(Image.new("L", (9, 9), 77), "PNG", transparency=77)).getpixel((4, 4)), WHITE)
    assert_near(shown(encode(Image.new("1", (9, 9)), "PNG", transparency=0)).getpixel((4, 4)), WHITE)
    for depth, value in ((2, 1), (4, 5)):  # the samples of both are 0101…; to Pillow they are the grey 85
        rows = (b"\0" + b"\x55" * depth) * 8
        keyed = png(8, 8, depth, 0, rows, chunk(b"tRNS", struct.pack(">H", value)))
        assert_near(shown(keyed).getpixel((4, 4)), WHITE)
        assert_near(shown(png(8, 8, depth, 0, rows)).getpixel((4, 4)), (85, 85, 85))
    rows = (b"\0" + struct.pack(">3H", 0xFFFF, 0x1234, 0) * 8) * 8
    key = chunk(b"tRNS", struct.pack(">3H", 0xFFFF, 0x1234, 0))
    assert_near(shown(png(8, 8, 16, 2, rows, key)).getpixel((4, 4)), WHITE)
    rows = (b"\0" + struct.pack(">8H", *[300] * 4, *[301] * 4)) * 8
    image = shown(png(8, 8, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 300))))
    assert_near(image.getpixel((0, 4)), WHITE, 30)
    assert image.getpixel((7, 4))[0] < 130, "301 is not 300"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "I", "F", "I;16"])
def test_every_mode_that_tiff_can_hold(mode: str) -> None:
    image = Image.new("L", (64, 64), 0)
    image.paste(255, (32, 0, 64, 64))
    if mode == "LAB":
        converted = image.convert("RGB").convert(mode)
    elif mode == "I;16":
        converted = image.convert("I").point(lambda value: value * 257).convert(mode)
    else:
        converted = (image.convert("RGB") if mode in ("CMYK", "YCbCr") else image).convert(mode)
    result = shown(encode(converted, "TIFF"))
    assert_near(result.getpixel((10, 30)), (0, 0, 0), 12)
    assert_near(result.getpixel((50, 30)), WHITE, 12)


@pytest.mark.parametrize(
    ("options", "pixel", "colour"),
    [
        ({"channels": 3, "bits": 16, "photometric": 2}, [65535, 32768, 0], (255, 128, 0)),
        ({"channels": 4, "bits": 16, "photometric": 2, "extra": 2}, [65535, 0, 0, 32768], (255, 127, 127)),
        ({"channels": 4, "bits": 16, "photometric": 5}, [65535, 32768, 0, 0], (0, 128, 255)),
        ({"channels": 4, "bits": 8, "photometric": 2, "extra": 1}, [64, 0, 0, 128], (191, 127, 127)),  # premultiplied
        ({"channels": 3, "bits": 8, "photometric": 2}, [9, 200, 77], (9, 200, 77)),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_several_samples(
    order: str, options: dict[str, int], pixel: list[int], colour: tuple[int, ...]
) -> None:
    samples = struct.pack(f"{order}{len(pixel)}{'H' if options['bits'] == 16 else 'B'}", *pixel) * 64
    assert_near(shown(tiff(8, 8, samples, order, **options)).getpixel((4, 4)), colour)


def test_tiff_in_planes_and_of_two_bits() -> None:
    planes = bytes([255] * 64 + [0] * 128)
    assert_near(shown(tiff(8, 8, planes, channels=3, bits=8, photometric=2, planar=2)).getpixel((4, 4)), RED)
    assert_near(shown(tiff(8, 8, b"\x55" * 16, bits=2)).getpixel((4, 4)), (85, 85, 85))


_TWO_COLOURS = b"\0\0\xff\0\xff\0\0\0"  # red, blue


@pytest.mark.parametrize(
    "data",
    [
        bmp(1, b"\x0f\0\0\0" * 8, tables=_TWO_COLOURS),
        bmp(4, b"\0\0\x11\x11" * 8, tables=_TWO_COLOURS + bytes(4 * 14)),
        bmp(4, b"\x04\0\x04\x11\0\0" * 8 + b"\0\1", 2, _TWO_COLOURS + bytes(4 * 14)),
        bmp(8, b"\0\0\0\0\1\1\1\1" * 8, tables=_TWO_COLOURS + bytes(4 * 254)),
        bmp(8, b"\x04\0\x04\1\0\0" * 8 + b"\0\1", 1, _TWO_COLOURS + bytes(4 * 254)),
        bmp(16, struct.pack("<8H", *[0x7C00] * 4, *[0x1F] * 4) * 8),
        bmp(16, struct.pack("<8H", *[0xF800] * 4, *[0x1F] * 4) * 8, 3, struct.pack("<3I", 0xF800, 0x7E0, 0x1F)),
        bmp(24, (b"\0\0\xff" * 4 + b"\xff\0\0" * 4) * 8),
        bmp(32, (b"\0\0\xff\0" * 4 + b"\xff\0\0\0" * 4) * 8),
    ],
    ids=["1", "4", "4 RLE", "8", "8 RLE", "16", "16 masks", "24", "32"],
)
def test_every_depth_of_bmp(data: bytes) -> None:
    image = shown(data)
    assert_near(image.getpixel((1, 4)), RED)
    assert_near(image.getpixel((6, 4)), BLUE)


def test_every_depth_of_png() -> None:
    palette = chunk(b"PLTE", bytes(48 - 3) + bytes((9, 200, 77)))
    for depth in (1, 2, 4):
        last = chunk(b"PLTE", bytes(3 * (2**depth - 1)) + bytes((9, 200, 77)))
        assert_near(shown(png(8, 8, depth, 3, (b"\0" + b"\xff" * depth) * 8, last)).getpixel((4, 4)), (9, 200, 77))
        assert_near(shown(png(8, 8, depth, 0, (b"\0" + b"\xff" * depth) * 8)).getpixel((4, 4)), WHITE)
    assert_near(shown(png(8, 8, 8, 3, (b"\0" + b"\x0f" * 8) * 8, palette)).getpixel((4, 4)), (9, 200, 77))
    deep = (b"\0" + struct.pack(">3H", 0xFFFF, 0x8080, 0) * 8) * 8
    assert_near(shown(png(8, 8, 16, 2, deep)).getpixel((4, 4)), (255, 128, 0))


def test_interlaced_png() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1))
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]  # widths and heights of Adam7 for 8 × 8
    rows = b"".join((b"\0" + bytes((9, 200, 77)) * width) * height for width, height in passes)
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert_near(shown(data).getpixel((5, 5)), (9, 200, 77))


@pytest.mark.parametrize("options", [{"progressive": True}, {"keep_rgb": True}, {"subsampling": 2}, {"optimize": True}])
def test_every_kind_of_jpeg(options: dict[str, object]) -> None:
    assert_quadrants(shown(encode(quadrants(256, 128), "JPEG", **options)))
    assert_near(shown(encode(Image.new("L", (64, 64), 90), "JPEG", **options)).getpixel((9, 9)), (90, 90, 90))


TEN_BIT_AVIF = """
AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAA
AAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAATgAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEA
AGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAgAAAAEAAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAA
AAAAE2NvbHJuY2x4AAIAAgAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAVm1kYXQSAAoJOBl//t4EBA0gMj8RgTGTQAB4AAAI
l81IX2lov0jnn0b+nZBTKDkk7CKSsKd041DlbebaYX2w93X9IDZXv4SDFzfPockHNqn/6mA=
"""  # the quadrants, by libavif: Pillow itself writes 8 bits only


def test_ten_bit_avif() -> None:
    assert_quadrants(shown(base64.b64decode(TEN_BIT_AVIF)))


@pytest.mark.parametrize("options", [{}, {"lossless": False}])
def test_alpha_in_webp_and_avif(options: dict[str, object]) -> None:
    half_blue = Image.new("RGBA", (64, 64), (*BLUE, 128))
    assert_near(shown(encode(half_blue, "WEBP", **options)).getpixel((9, 9)), (127, 127, 255))
    assert_near(shown(encode(half_blue, "AVIF")).getpixel((9, 9)), (127, 127, 255))


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_grey(order: str) -> None:
    full = blocks([0, 16384, 32768, 65535], order + "H")
    assert greys(tiff(*full, order=order)) == pytest.approx([0, 64, 128, 255], abs=3)
    twelve = blocks([0, 1024, 2048, 4095], order + "H")
    assert greys(tiff(*twelve, order=order)) == pytest.approx([0, 64, 128, 255], abs=3)
    signed = blocks([-1000, 0, 1000, 3000], order + "h")
    assert greys(tiff(*signed, order=order, sample_format=2)) == pytest.approx([0, 64, 128, 255], abs=3)


def test_sixteen_bit_png() -> None:
    width, height, samples = blocks([0, 16384, 32768, 65535], ">H")
    rows = b"".join(b"\0" + samples[y * width * 2 :][: width * 2] for y in range(height))
    assert greys(png(width, height, 16, 0, rows)) == pytest.approx([0, 64, 128, 255], abs=3)
    rgba = b"\0" + struct.pack(">4H", 0x8080, 0, 0xFFFF, 0xFFFF) * 8
    assert_near(shown(png(8, 8, 16, 6, rgba * 8)).getpixel((3, 3)), (128, 0, 255))
    grey_alpha = b"\0" + struct.pack(">2H", 0, 0x8080) * 8
    assert_near(shown(png(8, 8, 16, 4, grey_alpha * 8)).getpixel((3, 3)), (127, 127, 127))


def test_floats_with_nan_and_infinity() -> None:
    def shown_floats(*values: float) -> list[int]:
        return greys(tiff(*blocks(list(values), "<f"), bits=32, sample_format=3))

    assert shown_floats(0.0, 0.25, 0.5, 1.0) == pytest.approx([0, 64, 128, 255], abs=3)
    assert shown_floats(math.nan, -10.0, 10.0, math.inf) == pytest.approx([0, 0, 255, 255], abs=3)
    assert len(shown_floats(math.nan, math.nan)) == 2
    assert len(shown_floats(math.inf, -math.inf)) == 2
    assert shown_floats(7e37, 7e37) == pytest.approx([0, 0], abs=3)
    assert shown_floats(-3e38, 3e38) == pytest.approx([0, 255], abs=3)


def test_white_is_zero() -> None:
    full = blocks([0, 16384, 65535], "<H")
    assert greys(tiff(*full, photometric=0)) == pytest.approx([255, 191, 0], abs=3)
    assert greys(tiff(16, 8, bytes([0] * 8 + [255] * 8) * 8, bits=8, photometric=0)) == [255, 0]


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk(name: str) -> None:
    assert_quadrants(shown(encode(quadrants(256, 128).convert("CMYK"), name)), 10)


def test_cmyk_jpeg_without_adobe_marker_is_taken_as_inverted_as_browsers_do() -> None:
    data = encode(quadrants(256, 128).convert("CMYK"), "JPEG")
    start = data.index(b"\xff\xee")
    bare = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    assert b"Adobe" not in bare
    assert_quadrants(shown(bare), 10)


def test_ycck_jpeg() -> None:
    assert_quadrants(shown(ycck(quadrants(256, 128))), 10)


def test_icc_profile_is_applied() -> None:
    lab_as_rgb = quadrants().convert("LAB")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert_quadrants(shown(encode(lab_as_rgb, "TIFF", icc_profile=profile)), 30)
    swapped = swapped_primaries()
    for name in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"):
        result = shown(encode(Image.new("RGB", (64, 64), RED), name, icc_profile=swapped))
        assert_near(result.getpixel((20, 20)), GREEN, 12)


def test_cmyk_goes_through_its_profile() -> None:
    cyan = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    paper = Image.new("CMYK", (64, 64))
    for name in ("JPEG", "TIFF"):
        assert_near(shown(encode(cyan, name)).getpixel((20, 20)), (0, 255, 255))
        assert_near(shown(encode(cyan, name, icc_profile=red_ink_profile())).getpixel((20, 20)), RED, 20)
        assert_near(shown(encode(paper, name, icc_profile=red_ink_profile())).getpixel((20, 20)), WHITE)


def red_ink_profile() -> bytes:
    """A CMYK profile of a press whose cyan ink is red, and all of whose other inks are black."""
    white, red, black = bytes((255, 128, 128)), bytes((138, 209, 198)), bytes((0, 128, 128))  # 8-bit CIELAB
    table = white + black * 7 + red + black * 7  # 2 × 2 × 2 × 2 inks; the last, black, varies fastest
    matrix = struct.pack(">9i", *[65536, 0, 0, 0, 65536, 0, 0, 0, 65536])
    curve = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + curve * 4 + table + curve * 3
    size = 128 + 4 + 12 + len(lut)
    header = struct.pack(">I4sI4s4s4s12x4s", size, b"", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    illuminant = struct.pack(">3i", 63190, 65536, 54061)  # D50
    header = header.ljust(68, b"\0") + illuminant
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(lut)) + lut


def swapped_primaries() -> bytes:
    """An sRGB profile in which the colorants of red and green have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tXYZ", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"tXYZ", b"gXYZ", 1)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_bad_or_foreign_profiles_are_ignored(mode: str) -> None:
    plain = Image.new("RGB", (64, 64), (90, 90, 90)).convert(mode)
    for profile in (b"junk", swapped_primaries()[:200], swapped_primaries() if mode != "RGB" else b"x"):
        result = shown(encode(plain, "JPEG", icc_profile=profile))
        assert_near(result.getpixel((20, 20)), (90, 90, 90))


def test_first_frame_of_animations() -> None:
    frames = [quadrants(), Image.new("RGB", (64, 32), BLUE), Image.new("RGB", (64, 32), RED)]
    for name in ("GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"):
        assert_quadrants(shown(encode(frames[0], name, save_all=True, append_images=frames[1:])), 14)


def test_gif_whose_first_frame_is_smaller_than_the_screen() -> None:
    data = encode(Image.new("RGB", (40, 20), BLUE), "GIF")
    data = data[:6] + struct.pack("<HH", 80, 60) + data[10:]
    at = data.index(b"," + bytes(4) + struct.pack("<HH", 40, 20))
    moved = data[: at + 1] + struct.pack("<HH", 20, 30) + data[at + 5 :]
    result = shown(moved)
    assert result.size == (80, 60)
    assert_near(result.getpixel((40, 40)), BLUE)
    for corner in ((2, 2), (77, 57), (40, 10), (10, 40)):
        assert_near(result.getpixel(corner), WHITE)


def test_mpo_of_a_phone_is_a_jpeg() -> None:
    data = encode(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 32))])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert_quadrants(shown(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello",
        b"BM, said the old man, is how a bitmap begins",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"PK\3\4" + bytes(60),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(200),
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(200),
        b"P6 8 8 255\n" + bytes(192),
        b"\0\0\1\0\1\0" + bytes(60),
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"8BPS\0\1" + bytes(60),
        b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 8 +X 8\n" + bytes(256),
        b"\0\0\2" + bytes(9) + b"\x08\0\x08\0\x18\0" + bytes(192),  # TGA
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        b"\xff\x0a" + bytes(60),  # JPEG XL
        b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>",
        b"\xc5\xd0\xd3\xc6" + bytes(60),  # EPS with a preview
        b"%PDF-1.4\n" + encode(Image.new("RGB", (8, 8)), "JPEG"),
        b"\0" + encode(Image.new("RGB", (8, 8)), "PNG"),
    ],
)
def test_what_is_no_accepted_format(data: bytes) -> None:
    refused = refusal(data)
    assert refused.reason == Refusal.UNSUPPORTED_FORMAT == "unsupported-format"
    assert "JPEG" in refused.detail
    assert ("HEIC" in refused.detail) == (b"heic" in data)
    assert identify(data) is None


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"])
def test_heic_of_every_brand_is_named_in_its_refusal(brand: bytes) -> None:
    refused = refusal(struct.pack(">I4s4sI", 20, b"ftyp", brand, 0) + b"miaf" + bytes(99))
    assert refused.reason == Refusal.UNSUPPORTED_FORMAT
    assert refused.detail.startswith("HEIC pictures are not supported")
    assert "JPEG, PNG" in refused.detail


@pytest.mark.parametrize("tags", [{"dng": 1}, {"subfile": 1, "sub_ifds": 1}])
def test_camera_raw_files_are_no_accepted_format_though_they_begin_like_tiff(tags: dict[str, int]) -> None:
    refused = refusal(tiff(8, 8, bytes(64), bits=8, **tags))
    assert refused.reason == Refusal.UNSUPPORTED_FORMAT
    assert refused.detail.startswith("Camera raw files are not supported")


@pytest.mark.parametrize("tags", [{"subfile": 0, "sub_ifds": 1}, {"subfile": 1}, {"subfile": 2}])
def test_pyramids_and_pages_are_plain_tiff(tags: dict[str, int]) -> None:
    assert_near(shown(tiff(8, 8, b"\xff" * 64, bits=8, **tags)).getpixel((4, 4)), WHITE)


@pytest.mark.parametrize("percent", [3, 30, 60, 90])
def test_cut_off_files(percent: int) -> None:
    noise = Image.merge("RGB", [Image.effect_noise((120, 90), 60) for _ in "RGB"])
    files = {name.upper(): encode(noise, name.upper()) for name in ACCEPTED}
    files["progressive"] = encode(noise, "JPEG", progressive=True)
    files["lzw"] = encode(noise, "TIFF", compression="tiff_lzw")
    for name, data in files.items():
        refused = refusal(data[: len(data) * percent // 100])
        assert refused.reason == Refusal.UNDECODABLE_IMAGE, name


def test_files_cut_off_anywhere_give_a_refusal_or_all_that_matters() -> None:
    for name, whole in seeds().items():
        complete = prepare(whole, LIMITS)
        for length in {*range(40), *range(40, len(whole), max(1, len(whole) // 60))}:
            cut = answer(whole[:length])
            # What is missing may be no more than an end marker, an index or a second picture.
            assert isinstance(cut, PictureRefused) or cut == complete, (name, length)
            if length < len(whole) // 3:
                assert isinstance(cut, PictureRefused), (name, length)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_trailing_garbage_and_polyglots_are_harmless(name: str) -> None:
    for tail in (b"\0" * 100, b"PK\3\4 a zip archive", b"<script>alert(1)</script>"):
        working = prepare(encode(quadrants(), name) + tail, LIMITS)
        assert_quadrants(open_working(working), 14)
        assert tail not in working.data


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("JPEG", {"comment": b"<?php system('id'); ?>"}),
        ("JPEG", {"comment": b"%PDF-1.7 1 0 obj"}),
        ("JPEG", {"exif": b"Exif\0\0<script>alert(1)</script>"}),
        ("GIF", {"comment": b"*/=1;alert(1)//"}),
        ("PNG", {"exif": b"<script>alert(1)</script>"}),
        ("WEBP", {"xmp": b"<script>alert(1)</script>"}),
        ("AVIF", {"xmp": b"<script>alert(1)</script>"}),
    ],
)
def test_nothing_that_hides_in_a_picture_gets_into_the_working_image(name: str, options: dict[str, bytes]) -> None:
    (hidden,) = options.values()
    data = encode(quadrants(), name, **options)
    assert hidden in data
    working = prepare(data, LIMITS)
    assert_quadrants(open_working(working), 14)
    assert hidden.removeprefix(b"Exif\0\0") not in working.data


def test_a_gif_that_is_a_script_is_a_gif() -> None:
    data = bytearray(encode(quadrants(0x2A2F, 8), "GIF"))  # its width reads "/*"
    assert data.startswith(b"GIF87a/*")
    assert prepare(bytes(data) + b"*/=1;alert(1)", LIMITS).width == 0x2A2F


@pytest.mark.parametrize("claimed", [name.upper() for name in ACCEPTED])
def test_the_body_of_another_format_is_refused(claimed: str) -> None:
    files = seeds()
    for name in ACCEPTED:
        if name.upper() != claimed:
            assert isinstance(answer(files[claimed][:24] + files[name.upper()][24:]), PictureRefused), name


def test_the_bytes_decide_and_nothing_else() -> None:
    png_in_jpeg = b"\xff\xd8\xff\xe0" + encode(quadrants(), "PNG")
    assert refusal(png_in_jpeg).reason == Refusal.UNDECODABLE_IMAGE


def test_pixel_bombs_are_refused_by_their_header() -> None:
    claims = png(60000, 60000, 8, 2, b"")
    assert refusal(claims).reason == Refusal.TOO_MANY_PIXELS
    real = png(9000, 9000, 1, 0, bytes((9000 // 8 + 1) * 9000))
    assert len(real) < 20_000
    assert refusal(real).reason == Refusal.TOO_MANY_PIXELS
    assert "64 million" in refusal(real).detail
    gif = b"GIF89a" + struct.pack("<HH", 65535, 65535) + encode(quadrants(), "GIF")[10:]
    assert refusal(gif).reason == Refusal.TOO_MANY_PIXELS
    webp = bytearray(encode(Image.new("RGBA", (8, 8), (1, 2, 3, 99)), "WEBP", lossless=False))
    webp[24:30] = (9999).to_bytes(3, "little") * 2
    assert refusal(bytes(webp)).reason == Refusal.TOO_MANY_PIXELS


def test_the_pixel_limit_is_exact() -> None:
    data = encode(quadrants(40, 20), "PNG")
    assert prepare(data, ImageLimits(max_pixels=800)).width == 40
    assert refusal(data, ImageLimits(max_pixels=799)).reason == Refusal.TOO_MANY_PIXELS


def test_no_pixels() -> None:
    for data in (png(0, 9, 8, 2, b""), b"GIF89a" + bytes(4) + encode(quadrants(), "GIF")[10:]):
        assert isinstance(answer(data), (PictureRefused, WorkingImage))
    assert refusal(png(0, 9, 8, 2, b"")).reason == Refusal.UNDECODABLE_IMAGE


def test_png_text_bombs_stay_bounded() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9))
    assert refusal(png(1, 1, 8, 2, bytes(4), bomb)).reason == Refusal.UNDECODABLE_IMAGE


def test_profiles_that_promise_too_much_are_ignored() -> None:
    profile = bytearray(red_ink_profile())
    profile[144 + 10] = 255  # grid points along each of four inks: a table of 255 ** 4 colours
    assert_near(shown(encode(Image.new("CMYK", (64, 64)), "JPEG", icc_profile=bytes(profile))).getpixel((9, 9)), WHITE)
    many = bytearray(swapped_primaries())
    struct.pack_into(">I", many, 128, 0xFFFFFFFF)  # tags
    assert_near(shown(encode(quadrants(), "PNG", icc_profile=bytes(many))).getpixel((9, 9)), RED)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_very_many_frames_only_the_first_is_read(name: str) -> None:
    frames = [Image.new("RGB", (4, 4), (0, number % 256, number // 256)) for number in range(300)]
    data = encode(Image.new("RGB", (4, 4), RED), name, save_all=True, append_images=frames, duration=40)
    assert_near(shown(data).getpixel((2, 2)), RED)


def test_tiff_that_pillow_cannot_read() -> None:
    assert refusal(tiff(8, 8, bytes(8 * 8 * 8), bits=64)).reason == Refusal.UNDECODABLE_IMAGE


def test_tiff_with_an_endless_chain_of_pages() -> None:
    data = bytearray(tiff(8, 8, bytes(64), bits=8))
    struct.pack_into("<I", data, 8 + 2 + 12 * 11, 8)  # the next directory is this one
    assert_near(shown(bytes(data)).getpixel((4, 4)), (0, 0, 0))


def test_refusals_survive_pickling() -> None:
    copy = pickle.loads(pickle.dumps(refusal(b"")))
    assert (copy.reason, copy.detail) == (Refusal.UNSUPPORTED_FORMAT, refusal(b"").detail)
    assert str(copy).startswith("unsupported-format: ")


def answer(data: bytes) -> WorkingImage | PictureRefused:
    try:
        return prepare(data, ImageLimits(max_pixels=1_000_000))
    except PictureRefused as refused:
        return refused


def test_mutations_give_a_picture_or_a_refusal_and_nothing_else() -> None:
    dice = random.Random(20240601)
    for name, seed in seeds().items():
        assert isinstance(answer(seed), WorkingImage), name
        for _ in range(120):
            data = bytearray(seed)
            for _ in range(dice.choice((1, 1, 3, 10))):
                where = dice.randrange(min(len(data), dice.choice((64, 400, 10**6))))
                data[where] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
            if dice.random() < 0.2:
                start = dice.randrange(len(data))
                del data[start : start + dice.randrange(1, 50)]
            assert isinstance(answer(bytes(data)), (WorkingImage, PictureRefused))
    for _ in range(300):
        prefix = dice.choice((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*"))
        assert isinstance(answer(prefix + dice.randbytes(dice.randrange(300))), (WorkingImage, PictureRefused))
