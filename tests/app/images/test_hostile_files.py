"""Truncated, mutated and hostile files are refused or decoded safely."""

import pickle
import random
import struct
import zlib

import pytest
from PIL import Image
from support.images import (
    LIMITS,
    RED,
    assert_near,
    assert_quadrants,
    chunk,
    encode,
    open_working,
    png,
    quadrants,
    refusal,
    seeds,
    shown,
    tiff,
)

from app.images.limits import ImageLimits
from app.images.picture import (
    ACCEPTED,
    PictureRefused,
    Refusal,
    WorkingImage,
    prepare,
)


@pytest.mark.parametrize("percent", [3, 30, 60, 90])
def test_truncated_files_are_refused(percent: int) -> None:
    noise = Image.merge("RGB", [Image.effect_noise((120, 90), 60) for _ in "RGB"])
    files = {name.upper(): encode(noise, name.upper()) for name in ACCEPTED}
    files["progressive"] = encode(noise, "JPEG", progressive=True)
    files["lzw"] = encode(noise, "TIFF", compression="tiff_lzw")
    for name, data in files.items():
        refused = refusal(data[: len(data) * percent // 100])
        assert refused.reason == Refusal.UNDECODABLE_IMAGE, name


def test_files_truncated_anywhere_are_refused_or_complete() -> None:
    for name, whole in seeds().items():
        complete = prepare(whole, LIMITS)
        for length in {*range(40), *range(40, len(whole), max(1, len(whole) // 60))}:
            cut = answer(whole[:length])
            # The missing part may be only an end marker, an index or a second picture.
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
def test_the_working_image_has_no_metadata_or_hidden_data(name: str, options: dict[str, bytes]) -> None:
    (hidden,) = options.values()
    data = encode(quadrants(), name, **options)
    assert hidden in data
    working = prepare(data, LIMITS)
    assert_quadrants(open_working(working), 14)
    assert hidden.removeprefix(b"Exif\0\0") not in working.data


def test_a_polyglot_gif_is_decoded_as_gif() -> None:
    data = bytearray(encode(quadrants(0x2A2F, 8), "GIF"))  # its width reads "/*"
    assert data.startswith(b"GIF87a/*")
    assert prepare(bytes(data) + b"*/=1;alert(1)", LIMITS).width == 0x2A2F


@pytest.mark.parametrize("claimed", [name.upper() for name in ACCEPTED])
def test_the_body_of_another_format_is_refused(claimed: str) -> None:
    files = seeds()
    for name in ACCEPTED:
        if name.upper() != claimed:
            assert isinstance(answer(files[claimed][:24] + files[name.upper()][24:]), PictureRefused), name


def test_only_the_bytes_decide_the_format() -> None:
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


def test_images_without_pixels_are_refused() -> None:
    for data in (png(0, 9, 8, 2, b""), b"GIF89a" + bytes(4) + encode(quadrants(), "GIF")[10:]):
        assert isinstance(answer(data), (PictureRefused, WorkingImage))
    assert refusal(png(0, 9, 8, 2, b"")).reason == Refusal.UNDECODABLE_IMAGE


def test_png_text_bombs_stay_bounded() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9))
    assert refusal(png(1, 1, 8, 2, bytes(4), bomb)).reason == Refusal.UNDECODABLE_IMAGE


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_only_the_first_of_many_frames_is_read(name: str) -> None:
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


def test_mutated_files_are_decoded_or_refused() -> None:
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
