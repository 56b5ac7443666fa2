"""Formats, frames and sizes: what is decoded, and what is refused."""

import io
import struct

import pytest
from PIL import Image, ImageCms
from support.images import (
    BLUE,
    LIMITS,
    RED,
    WHITE,
    assert_near,
    assert_quadrants,
    encode,
    exif_of,
    open_working,
    quadrants,
    refusal,
    shown,
    tiff,
)

from app.images.limits import ImageLimits
from app.images.picture import (
    Refusal,
    identify,
    prepare,
)


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
def test_unsupported_formats_are_refused(data: bytes) -> None:
    refused = refusal(data)
    assert refused.reason == Refusal.UNSUPPORTED_FORMAT == "unsupported-format"
    assert "JPEG" in refused.detail
    assert ("HEIC" in refused.detail) == (b"heic" in data)
    assert identify(data) is None


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"])
def test_the_refusal_of_heic_names_it(brand: bytes) -> None:
    refused = refusal(struct.pack(">I4s4sI", 20, b"ftyp", brand, 0) + b"miaf" + bytes(99))
    assert refused.reason == Refusal.UNSUPPORTED_FORMAT
    assert refused.detail.startswith("HEIC pictures are not supported")
    assert "JPEG, PNG" in refused.detail


@pytest.mark.parametrize("tags", [{"dng": 1}, {"subfile": 1, "sub_ifds": 1}])
def test_camera_raw_files_are_refused(tags: dict[str, int]) -> None:
    refused = refusal(tiff(8, 8, bytes(64), bits=8, **tags))
    assert refused.reason == Refusal.UNSUPPORTED_FORMAT
    assert refused.detail.startswith("Camera raw files are not supported")


@pytest.mark.parametrize("tags", [{"subfile": 0, "sub_ifds": 1}, {"subfile": 1}, {"subfile": 2}])
def test_pyramids_and_pages_are_plain_tiff(tags: dict[str, int]) -> None:
    assert_near(shown(tiff(8, 8, b"\xff" * 64, bits=8, **tags)).getpixel((4, 4)), WHITE)
