"""Every mode, depth and colour space becomes sRGB over white."""

import base64
import math
import struct
import zlib

import pytest
from PIL import Image, ImageCms
from support.images import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    assert_near,
    assert_quadrants,
    blocks,
    bmp,
    chunk,
    encode,
    greys,
    png,
    quadrants,
    shown,
    tiff,
    ycck,
)


@pytest.mark.parametrize("hidden", [RED, (0, 0, 0)])
def test_alpha_is_composited_over_white(hidden: tuple[int, int, int]) -> None:
    image = Image.new("RGBA", (1600, 1600), (*hidden, 0))
    image.paste((*BLUE, 255), (0, 0, 800, 1600))
    image.paste((*BLUE, 128), (0, 1200, 800, 1600))
    for name in ("PNG", "WEBP", "TIFF"):
        result = shown(encode(image, name))  # libwebp itself may drop hidden colours
        assert_near(result.getpixel((100, 100)), BLUE)
        assert_near(result.getpixel((100, 700)), (127, 127, 255))
        for x in range(385, 768, 30):  # from the edge on: hidden colours do not bleed
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
    for depth, value in ((2, 1), (4, 5)):  # both have samples 0101…, which Pillow scales to grey 85
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
    """A CMYK profile in which cyan ink is red and all other inks are black."""
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
    """An sRGB profile with the colorants of red and green swapped."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tXYZ", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"tXYZ", b"gXYZ", 1)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_bad_or_foreign_profiles_are_ignored(mode: str) -> None:
    plain = Image.new("RGB", (64, 64), (90, 90, 90)).convert(mode)
    for profile in (b"junk", swapped_primaries()[:200], swapped_primaries() if mode != "RGB" else b"x"):
        result = shown(encode(plain, "JPEG", icc_profile=profile))
        assert_near(result.getpixel((20, 20)), (90, 90, 90))


def test_oversized_profiles_are_ignored() -> None:
    profile = bytearray(red_ink_profile())
    profile[144 + 10] = 255  # grid points along each of four inks: a table of 255 ** 4 colours
    assert_near(shown(encode(Image.new("CMYK", (64, 64)), "JPEG", icc_profile=bytes(profile))).getpixel((9, 9)), WHITE)
    many = bytearray(swapped_primaries())
    struct.pack_into(">I", many, 128, 0xFFFFFFFF)  # tags
    assert_near(shown(encode(quadrants(), "PNG", icc_profile=bytes(many))).getpixel((9, 9)), RED)
