"""Seeded mutations that turn valid picture files into nearly valid ones.

Some mutations know no format. Others split a file into its pieces (chunks, segments, boxes, directory entries), change
those, and repair lengths and checksums, so that the change gets past a decoder's first checks.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

Mutation = Callable[[Random, bytes, bytes], bytes]

_ODD_INTEGERS = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF,
)  # fmt: skip
_MOST_BYTES = 200_000


def mutate(dice: Random, data: bytes, donor: bytes) -> bytes:
    """Apply one to three mutations to `data`. Some of them copy from `donor`, a file of any format."""
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        data = dice.choice(MUTATIONS)(dice, data, donor)[:_MOST_BYTES]
    return data


# Mutations that know no format.


def _place(dice: Random, data: bytes) -> int:
    """Return an offset into `data`, more often near the start, where the headers are."""
    return dice.randrange(max(1, min(len(data), dice.choice((16, 64, 256, 1 << 30)))))


def _flip_bits(dice: Random, data: bytes, _donor: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8)) if data else 0):
        changed[_place(dice, data)] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _odd_bytes(dice: Random, data: bytes, _donor: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 2, 4)) if data else 0):
        changed[_place(dice, data)] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
    return bytes(changed)


def _odd_integer(dice: Random, data: bytes, _donor: bytes) -> bytes:
    at = _place(dice, data)
    value = dice.choice((*_ODD_INTEGERS, len(data), len(data) - at, dice.randrange(70_000)))
    size = dice.choice((2, 3, 4, 4, 8))
    packed = (value % (1 << 8 * size)).to_bytes(size, dice.choice(("big", "little")))
    return data[:at] + packed + data[at + size :]


def _truncate(dice: Random, data: bytes, _donor: bytes) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _insert(dice: Random, data: bytes, _donor: bytes) -> bytes:
    at = _place(dice, data)
    return data[:at] + dice.choice((dice.randbytes(dice.randrange(1, 40)), bytes(dice.randrange(1, 3000)))) + data[at:]


def _delete(dice: Random, data: bytes, _donor: bytes) -> bytes:
    at = _place(dice, data)
    return data[:at] + data[at + dice.choice((1, 2, 4, dice.randrange(1, 200))) :]


def _repeat(dice: Random, data: bytes, _donor: bytes) -> bytes:
    start, end = sorted((_place(dice, data), _place(dice, data)))
    return data[:end] + data[start:end] * dice.choice((1, 2, 50)) + data[end:]


def _splice(dice: Random, data: bytes, donor: bytes) -> bytes:
    at = _place(dice, data)
    return data[:at] + donor[dice.choice((at, _place(dice, donor))) :]


def _transplant(dice: Random, data: bytes, donor: bytes) -> bytes:
    at, start, size = _place(dice, data), _place(dice, donor), dice.randrange(1, 100)
    return data[:at] + donor[start : start + size] + data[at + size :]


def _append(_dice: Random, data: bytes, donor: bytes) -> bytes:
    return data + donor


def _prepend_magic(dice: Random, data: bytes, donor: bytes) -> bytes:
    return donor[: dice.choice((2, 4, 8, 12, 24))] + data


# Mutations of pieces.


def _swap_pieces(dice: Random, data: bytes, _donor: bytes) -> bytes:
    pieces = split(data)
    one, other = dice.randrange(len(pieces)), dice.randrange(len(pieces))
    pieces[one], pieces[other] = pieces[other], pieces[one]
    return b"".join(pieces)


def _drop_piece(dice: Random, data: bytes, _donor: bytes) -> bytes:
    pieces = split(data)
    del pieces[dice.randrange(len(pieces))]
    return b"".join(pieces)


def _repeat_piece(dice: Random, data: bytes, _donor: bytes) -> bytes:
    pieces = split(data)
    at = dice.randrange(len(pieces))
    return b"".join(pieces[:at] + [pieces[at]] * dice.choice((2, 3, 30, 300)) + pieces[at + 1 :])


def _foreign_piece(dice: Random, data: bytes, donor: bytes) -> bytes:
    pieces = split(data)
    at = dice.randrange(len(pieces) + 1)
    return b"".join([*pieces[:at], dice.choice(split(donor)), *pieces[at + dice.randrange(2) :]])


def _change_in_piece(dice: Random, data: bytes, donor: bytes) -> bytes:
    """Change one piece, then repair its length and checksum."""
    pieces = split(data)
    at = dice.randrange(len(pieces))
    change = dice.choice((_flip_bits, _odd_bytes, _odd_integer, _insert, _delete, _truncate, _transplant))
    pieces[at] = _sealed(data, pieces[at], change(dice, pieces[at], donor))
    return _whole_sealed(b"".join(pieces))


def _repacked_pixels(dice: Random, data: bytes, donor: bytes) -> bytes:
    """Change a PNG's filtered rows inside the zlib stream. Other formats: see _change_in_piece."""
    pieces = split(data)
    packed = [at for at, piece in enumerate(pieces) if piece[4:8] == b"IDAT"]
    if not packed:
        return _change_in_piece(dice, data, donor)
    try:
        rows = zlib.decompress(pieces[packed[0]][8:-4])
    except zlib.error:
        return data
    change = dice.choice((_flip_bits, _odd_bytes, _insert, _delete, _truncate))
    pieces[packed[0]] = _png_chunk(b"IDAT", zlib.compress(change(dice, rows, donor), 1))
    return b"".join(pieces)


MUTATIONS: Sequence[Mutation] = (
    _flip_bits, _odd_bytes, _odd_integer, _odd_integer, _truncate, _insert, _delete, _repeat, _splice, _transplant,
    _append, _prepend_magic, _swap_pieces, _drop_piece, _repeat_piece, _foreign_piece,
    _change_in_piece, _change_in_piece, _change_in_piece, _repacked_pixels,
)  # fmt: skip


# Splitting files, and repairing changed pieces.


def split(data: bytes) -> list[bytes]:
    """Split a file into its pieces, at least one. A part without structure is one piece."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        pieces = [data[:8], *_split_by(data[8:], lambda at: 12 + int.from_bytes(at[:4], "big"))]
    elif data.startswith(b"\xff\xd8"):
        pieces = [data[:2], *_split_by(data[2:], _jpeg_segment)]
    elif data.startswith(b"GIF8"):
        table = 3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0
        pieces = [data[:6], data[6:13], data[13 : 13 + table], *_split_by(data[13 + table :], _gif_block)]
    elif data.startswith(b"RIFF"):
        pieces = [data[:12], *_split_by(data[12:], lambda at: 8 + (int.from_bytes(at[4:8], "little") + 1 & ~1))]
    elif data.startswith((b"II*\0", b"MM\0*")):
        pieces = _tiff_pieces(data)
    elif data[4:8] == b"ftyp":
        pieces = _split_by(data, _iso_box)
    else:  # BMP (its header is a row of integers), and everything else
        pieces = [data[:14], *(data[at : at + 4] for at in range(14, min(54, len(data)), 4)), data[54:]]
    return [piece for piece in pieces if piece] or [b""]


def _split_by(data: bytes, length: Callable[[bytes], int]) -> list[bytes]:
    """Cut `data` into pieces of at least one byte; `length` of the rest gives the size of the next piece."""
    pieces: list[bytes] = []
    while data and len(pieces) < 1000:
        size = max(1, length(data[:_MOST_BYTES]))
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def _jpeg_segment(data: bytes) -> int:
    if data[1:2] in (b"\xd8", b"\xd9", b"\x01"):
        return 2
    size = 2 + int.from_bytes(data[2:4], "big")
    if data[1:2] == b"\xda":  # a scan extends to the next marker other than a restart marker
        while size + 1 < len(data) and (data[size] != 0xFF or data[size + 1] in (0, *range(0xD0, 0xD8))):
            size += 1
    return size


def _gif_block(data: bytes) -> int:
    if data[:1] == b"!":
        at = 2
    elif data[:1] == b",":
        at = 11 + (3 << (data[9] & 7) + 1 if len(data) > 9 and data[9] & 0x80 else 0)
    else:
        return 1
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _iso_box(data: bytes) -> int:
    """Return the length of a box; for a container box, the length of its header."""
    inside = {b"meta": 12, b"iprp": 8, b"ipco": 8, b"moov": 8, b"trak": 8, b"mdia": 8, b"minf": 8, b"stbl": 8}
    return inside.get(data[4:8]) or int.from_bytes(data[:4], "big")


def _tiff_pieces(data: bytes) -> list[bytes]:
    order = "little" if data.startswith(b"II") else "big"
    directory = int.from_bytes(data[4:8], order)  # type: ignore[arg-type]
    count = int.from_bytes(data[directory : directory + 2], order)  # type: ignore[arg-type]
    entries = [data[directory + 2 + 12 * at :][:12] for at in range(min(count, 200))]
    rest = directory + 2 + 12 * len(entries)
    return [data[:4], data[4:8], data[8:directory], data[directory : directory + 2], *entries, data[rest:]]


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _sealed(whole: bytes, before: bytes, after: bytes) -> bytes:
    """Repair the length, and the checksum if there is one, of a changed piece of `whole`."""
    if whole.startswith(b"\x89PNG") and len(before) >= 12 and before[:4] != b"\x89PNG":
        return _png_chunk(after[4:8].ljust(4, b"x"), after[8 : max(8, len(after) - 4)])
    if whole.startswith(b"RIFF") and len(before) >= 8 and not before.startswith(b"RIFF"):
        body = after[8:]
        return after[:4].ljust(4) + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    if whole[4:8] == b"ftyp" and int.from_bytes(before[:4], "big") == len(before):
        return struct.pack(">I", max(8, len(after))) + after[4:].ljust(4)
    if whole.startswith(b"\xff\xd8") and before[:1] == b"\xff" and before[1:2] not in (b"\xd8", b"\xd9", b"\xda"):
        return before[:2] + struct.pack(">H", max(2, len(after) - 2) % 65536) + after[4:]
    return after


def _whole_sealed(data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:] if data.startswith(b"RIFF") else data
