"""EXIF orientation is applied once, and broken EXIF is ignored."""

import pytest
from PIL import Image
from support.images import LIMITS, assert_quadrants, encode, exif_of, open_working, quadrants, shown, stored_as

from app.images.picture import (
    prepare,
)


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
def test_broken_exif_is_ignored(exif: bytes) -> None:
    for name in ("JPEG", "PNG", "WEBP"):
        assert_quadrants(shown(encode(quadrants(), name, exif=exif)))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_impossible_orientation_is_ignored(value: int) -> None:
    assert_quadrants(shown(encode(quadrants(), "JPEG", exif=exif_of(value))))


def test_xmp_orientation_is_ignored_as_browsers_do() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert prepare(encode(quadrants(), "JPEG", xmp=xmp), LIMITS).width == 64
