"""Hostile and odd files by kind, generated on demand, the same every time.

Each kind lists the status codes that are right for it.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from PIL import ExifTags, Image
from small_pictures import small_pictures

TAKEN, UNSUPPORTED, REFUSED = 202, 415, 422
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "AVIF")
_RED = (220, 30, 30)


@dataclass(frozen=True, slots=True)
class Kind:
    """Files of one kind: the allowed status codes, and a function that generates the files."""

    name: str
    allowed: frozenset[int]
    files: Callable[[], Iterator[bytes]]


def _encoded(image: Image.Image, name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def _plain(name: str, size: tuple[int, int] = (40, 30)) -> bytes:
    return _encoded(Image.new("RGB", size, _RED), name)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk with length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, rows: bytes, *extra: bytes, depth: int = 8, colours: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def _tiff(entries: list[tuple[int, int, int, int]], data: bytes = bytes(64), next_directory: int = 0) -> bytes:
    """Return an 8 × 8 grey TIFF with additional or replaced `entries` (tag, type, count, value)."""
    start = 8 + 2 + 12 * (9 + len(entries)) + 4
    needed = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, start)]
    needed += [(277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64)]
    given = {entry[0] for entry in entries}
    entries = sorted([*(entry for entry in needed if entry[0] not in given), *entries])
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", next_directory)).ljust(start, b"\0") + data


def _valid() -> Iterator[bytes]:
    yield from small_pictures().values()


def _turned() -> Iterator[bytes]:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        for name in ("JPEG", "WEBP", "PNG", "TIFF", "AVIF"):
            yield _encoded(Image.linear_gradient("L").resize((40, 30)).convert("RGB"), name, exif=exif)


def _cut_off() -> Iterator[bytes]:
    for data in small_pictures().values():
        for part in (0.05, 0.3, 0.6, 0.95):
            yield data[: int(len(data) * part)]


def _mislabelled() -> Iterator[bytes]:
    pictures = small_pictures()
    for name in _FORMATS:
        yield from (pictures[name][:24] + pictures[other][24:] for other in _FORMATS if other != name)


def _polyglots() -> Iterator[bytes]:
    for name in _FORMATS:
        data = small_pictures()[name]
        for tail in (b"PK\3\4" + bytes(60), b"<script>alert(1)</script>", b"%PDF-1.7\n%%EOF", b"<?php system('id');?>"):
            yield data + tail
    yield _encoded(Image.new("P", (0x2A2F, 4)), "GIF") + b"*/=1;alert(1)"
    yield _encoded(Image.new("RGB", (9, 9)), "JPEG", comment=b"*/=alert(1);/*")
    yield _encoded(Image.new("RGB", (9, 9)), "JPEG", comment=b"%PDF-1.7 1 0 obj <</Type/Catalog>>")


def _other_formats() -> Iterator[bytes]:
    jpeg = small_pictures()["JPEG"]
    yield b""
    yield b"\0"
    yield b"hello"
    yield b"BM, said the old man, is how a bitmap begins"
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n"
    yield b"\xc5\xd0\xd3\xc6" + bytes(60)
    yield b"%PDF-1.7\n1 0 obj <</OpenAction <</S/Launch/F(id)>>>>\n"
    yield b"%PDF-1.4\n" + jpeg
    yield b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/'/></svg>"
    yield b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>"
    yield b"<!DOCTYPE svg [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><svg>&b;</svg>"
    yield b"push graphic-context\nviewbox 0 0 9 9\nfill 'url(https://127.0.0.1/\";id \")'\npop graphic-context\n"
    yield b"8BPS\0\1" + bytes(60)
    yield b"\0\0\1\0\1\0" + bytes(60)
    yield b"\0\0\2" + bytes(9) + b"\x08\0\x08\0\x18\0" + bytes(192)
    yield b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 8 +X 8\n" + bytes(256)
    yield b"P6 8 8 255\n" + bytes(192)
    yield b"P4 99999999 99999999\n"
    yield b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60)
    yield b"\xff\x0a" + bytes(60)
    yield b"v/1\1" + bytes(60)
    yield b"\xd7\xcd\xc6\x9a" + bytes(60)
    yield b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60)
    yield b"icns" + bytes(60)
    yield b"DDS " + bytes(124)
    yield b"SIMPLE  =                    T"
    yield b"RIFF\x24\0\0\0WAVEfmt "
    yield b"PK\3\4" + bytes(60)
    yield b"\x1f\x8b\x08" + zlib.compress(jpeg)
    yield b"\x7fELF" + bytes(60)
    yield b"MZ" + bytes(60)
    yield b"#!/bin/sh\nid\n"
    yield b"ID3\4" + bytes(60)
    yield b"\x80\4\x95cposix\nsystem\n"
    for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"isom", b"mp42", b"qt  ", b"crx "):
        yield struct.pack(">I4s4sI4s", 20, b"ftyp", brand, 0, b"miaf") + bytes(99)
    yield _tiff([(50706, 1, 4, 0x00000401)])  # DNG
    yield _tiff([(254, 4, 1, 1), (330, 4, 1, 8)])  # NEF, ARW


def _claimed_pixels() -> Iterator[bytes]:
    """Headers that claim more pixels than the limit, followed by little data."""
    yield _png(60_000, 60_000, b"")
    yield _png(0x7FFFFFFF, 0x7FFFFFFF, b"")
    yield _png(9000, 9000, bytes((9000 // 8 + 1) * 9000), depth=1, colours=0)
    yield b"GIF89a" + struct.pack("<HH", 65535, 65535) + _plain("GIF")[10:]
    yield _plain("BMP")[:18] + struct.pack("<ii", 50_000, 50_000) + _plain("BMP")[26:]
    yield _plain("BMP")[:18] + struct.pack("<ii", 0x7FFFFFFF, -0x7FFFFFFF) + _plain("BMP")[26:]
    yield _plain("JPEG").replace(struct.pack(">HH", 30, 40), struct.pack(">HH", 65500, 65500), 1)
    yield _tiff([(256, 4, 1, 100_000), (257, 4, 1, 100_000)])
    yield _tiff([(256, 4, 1, 0xFFFFFFFF), (257, 4, 1, 0xFFFFFFFF)])
    avif = _plain("AVIF")
    at = avif.index(b"ispe") + 8
    yield avif[:at] + struct.pack(">II", 60_000, 60_000) + avif[at + 8 :]
    webp = bytearray(_encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 99)), "WEBP"))
    webp[24:30] = b"\xff\xff\xff" * 2
    yield bytes(webp)


def _large() -> Iterator[bytes]:
    """The maximum number of pixels in few bytes. They are decoded, or refused for lack of memory."""
    yield _png(8000, 8000, bytes(1001 * 8000), depth=1, colours=0)
    yield _png(8000, 8000, bytes(24_001 * 8000))
    yield _encoded(Image.new("L", (8000, 8000)), "JPEG")
    yield _encoded(Image.new("CMYK", (8000, 8000)), "JPEG")
    yield _encoded(Image.new("P", (8000, 8000)), "GIF")
    yield _encoded(Image.new("1", (8000, 8000)), "TIFF", compression="group4")
    yield _encoded(Image.new("F", (4000, 8000)), "TIFF", compression="tiff_adobe_deflate")
    yield _plain("JPEG").replace(struct.pack(">HH", 30, 40), struct.pack(">HH", 65500, 970), 1)
    yield b"GIF89a" + struct.pack("<HH", 65535, 976) + _plain("GIF")[10:]
    for size in ((60_000, 1), (1, 60_000)):
        yield from (_plain(name, size) for name in ("PNG", "JPEG", "TIFF", "BMP", "GIF"))


def _many_frames() -> Iterator[bytes]:
    frames = [Image.new("RGB", (2, 2), (number % 256, number // 256, 0)) for number in range(3000)]
    for name in ("GIF", "PNG", "WEBP"):
        yield _encoded(frames[0], name, save_all=True, append_images=frames[1:], duration=20)
    yield _encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:500])
    yield _encoded(frames[0], "MPO", save_all=True, append_images=frames[1:500])
    yield _encoded(frames[0].resize((16, 16)), "AVIF", save_all=True, append_images=[frames[9].resize((16, 16))] * 99)
    whole = _plain("PNG")
    yield whole[:33] + chunk(b"acTL", struct.pack(">II", 0xFFFFFFFF, 0)) + whole[33:]
    yield whole[:33] + chunk(b"fcTL", bytes(26)) * 5000 + whole[33:]


def _text_bombs() -> Iterator[bytes]:
    zeros = zlib.compress(bytes(300_000_000), 9)
    whole = _plain("PNG")
    small = zlib.compress(bytes(1_000_000), 9)
    for body in (
        chunk(b"zTXt", b"x\0\0" + zeros),
        chunk(b"iTXt", b"x\0\1\0\0\0" + zeros),
        chunk(b"iCCP", b"x\0\0" + zeros),
        chunk(b"zTXt", b"x\0\0" + small) * 500,
        chunk(b"tEXt", b"x\0" + bytes(100_000)) * 100,
        chunk(b"eXIf", bytes(5_000_000)),
        chunk(b"PLTE", bytes(768)) * 1000,
        struct.pack(">I", 0xFFFFFFFF) + b"tEXt",
    ):
        yield whole[:33] + body + whole[33:]
    yield _png(8, 8, bytes(300_000_000))


def _odd_metadata() -> Iterator[bytes]:
    header = struct.pack(">I4sI4s4s4s12x4s", 0xFFFFFFFF, b"", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    header = header.ljust(128, b"\0")
    many_tags = header + struct.pack(">I", 0xFFFFFFFF)
    long_tag = header + struct.pack(">I4sII", 1, b"A2B0", 128, 0xFFFFFF00) + bytes(99)
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        yield from (_encoded(Image.new("RGB", (16, 16)), name, icc_profile=each) for each in (many_tags, long_tag))
    for exif in (
        b"",
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0" + _tiff([(34665, 4, 1, 8)]),
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\5\0\xff\xff\xff\xff\0\0\0\0",
        b"Exif\0\0" + bytes(60_000),
    ):
        yield from (_encoded(Image.new("RGB", (16, 16)), name, exif=exif) for name in ("JPEG", "PNG", "WEBP"))


def _tiff_loops() -> Iterator[bytes]:
    yield _tiff([], next_directory=8)
    yield _tiff([], next_directory=0xFFFFFFFF)
    yield _tiff([(330, 4, 1, 8), (34665, 4, 1, 8), (34853, 4, 1, 8)])
    yield _tiff([(270, 2, 0x7FFFFFFF, 8)])
    yield _tiff([(273, 4, 0x10000000, 8)])
    yield _tiff([(277, 3, 1, 65535)])
    yield _tiff([(278, 4, 1, 0)])
    yield _tiff([(279, 4, 1, 0xFFFFFFFF)])
    yield _tiff([(324, 4, 1, 8), (322, 4, 1, 0), (323, 4, 1, 0)])
    yield _tiff([(324, 4, 1, 8), (322, 4, 1, 0xFFFFFFF0), (323, 4, 1, 0xFFFFFFF0), (325, 4, 1, 64)])
    for compression in (2, 3, 4, 5, 6, 7, 8, 32773, 34712, 34925, 50000, 65535):
        yield _tiff([(259, 3, 1, compression)])
    empty_directories = b"".join(struct.pack("<HI", 0, 14 + 6 * number) for number in range(100_000))
    yield b"II*\0" + struct.pack("<I", 8) + empty_directories
    yield b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 0xFFFFFFFFFFFFFFFF) + bytes(60)
    yield b"MM\0*" + struct.pack(">IH", 8, 0xFFFF) + bytes(12) * 65535


def _noise() -> Iterator[bytes]:
    dice = Random(2026)
    for name in _FORMATS:
        for keep in (12, 40, 120):
            yield from (small_pictures()[name][:keep] + dice.randbytes(size) for size in (50, 5000))


def _any(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


KINDS = (
    Kind("valid, in every mode", _any(TAKEN), _valid),
    Kind("turned by EXIF", _any(TAKEN), _turned),
    Kind("cut off", _any(TAKEN, UNSUPPORTED, REFUSED), _cut_off),
    Kind("body of another format", _any(UNSUPPORTED, REFUSED), _mislabelled),
    Kind("polyglot", _any(TAKEN), _polyglots),
    Kind("another format", _any(UNSUPPORTED), _other_formats),
    Kind("too many pixels claimed", _any(REFUSED), _claimed_pixels),
    Kind("as many pixels as may be", _any(TAKEN, REFUSED), _large),
    Kind("very many frames", _any(TAKEN, REFUSED), _many_frames),
    Kind("text and data bombs", _any(TAKEN, REFUSED), _text_bombs),
    Kind("odd EXIF and profiles", _any(TAKEN), _odd_metadata),
    Kind("TIFF loops and lies", _any(TAKEN, REFUSED), _tiff_loops),
    Kind("noise after a good header", _any(TAKEN, UNSUPPORTED, REFUSED), _noise),
)
