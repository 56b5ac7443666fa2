"""A JPEG file as segments and image data, to change what it says of itself and nothing else.

In: the bytes of a file; out: its segments, and from segments a file again, in which every pixel is as it was. It must
not know what the segments say, but for the places of further pictures in the file, which move.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

APP0: Final = 0xE0
APP1: Final = 0xE1
APP2: Final = 0xE2
APP13: Final = 0xED
MOST_BYTES: Final = 0xFFFF - 2  # in one segment

_START, _SCAN, _END = 0xD8, 0xDA, 0xD9
_MPF: Final = b"MPF\0"  # CIPA DC-007: where further pictures are, such as the gain maps of telephones
_MP_ENTRIES: Final = 0xB002
_ENTRY_BYTES: Final = 16


class DamagedJpeg(ValueError):
    """The file is no JPEG, or not a whole one. The message is one line."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker and what follows it."""

    marker: int
    data: bytes

    @property
    def size(self) -> int:
        """The bytes that it takes in a file."""
        return 4 + len(self.data)


def split(jpeg: bytes) -> tuple[list[Segment], bytes]:
    """The segments in front of the image data, and the rest of the file as it is. Raises DamagedJpeg."""
    if not jpeg.startswith(b"\xff\xd8"):
        raise DamagedJpeg("this is no JPEG file")
    segments: list[Segment] = []
    at = 2
    while True:
        if jpeg[at : at + 1] != b"\xff":
            raise DamagedJpeg("this JPEG file is damaged")
        while jpeg[at + 1 : at + 2] == b"\xff":  # padding
            at += 1
        if len(jpeg) < at + 4 or jpeg[at + 1] in (_START, _END):
            raise DamagedJpeg("this JPEG file is damaged")
        if jpeg[at + 1] == _SCAN:
            return segments, jpeg[at:]
        size = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if size < 2 or len(jpeg) < at + 2 + size:
            raise DamagedJpeg("this JPEG file is cut short")
        segments.append(Segment(jpeg[at + 1], jpeg[at + 4 : at + 2 + size]))
        at += 2 + size


def join(before: Sequence[Segment], segments: Sequence[Segment], rest: bytes) -> bytes:
    """The file with `segments` where `before` were. Raises DamagedJpeg."""
    moved = list(_with_pictures_found(before, segments))
    parts = (b"\xff" + bytes([one.marker]) + (len(one.data) + 2).to_bytes(2, "big") + one.data for one in moved)
    return b"\xff\xd8" + b"".join(parts) + rest


def _with_pictures_found(before: Sequence[Segment], segments: Sequence[Segment]) -> Iterator[Segment]:
    """The segments, of which one may say where further pictures are: as far as the image data has moved."""
    grown = sum(segment.size for segment in segments) - sum(segment.size for segment in before)
    for place, segment in enumerate(segments):
        if segment.marker == APP2 and segment.data.startswith(_MPF):
            was = next(index for index, old in enumerate(before) if old == segment)
            shift = sum(one.size for one in segments[:place]) - sum(one.size for one in before[:was])
            try:
                yield replace(segment, data=_found_again(segment.data, grown, grown - shift))
            except struct.error as error:
                raise DamagedJpeg("this JPEG file has further pictures that cannot be kept") from error
        else:
            yield segment


def _found_again(index: bytes, first_grown: int, others_moved: int) -> bytes:
    """The index of pictures, the first of which is larger now, and the others that much farther away from it."""
    data = bytearray(index)
    header = len(_MPF)
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[header : header + 2]), "")
    if not order:
        raise DamagedJpeg("this JPEG file has further pictures that cannot be kept")
    directory = header + struct.unpack_from(order + "I", data, header + 4)[0]
    (count,) = struct.unpack_from(order + "H", data, directory)
    for number in range(count):
        tag, _, size, offset = struct.unpack_from(order + "HHII", data, directory + 2 + 12 * number)
        if tag != _MP_ENTRIES:
            continue
        for entry in range(header + offset, header + offset + size, _ENTRY_BYTES):
            length, away = struct.unpack_from(order + "II", data, entry + 4)
            if away:
                struct.pack_into(order + "I", data, entry + 8, away + others_moved)
            else:  # the first picture, in which the segments are
                struct.pack_into(order + "I", data, entry + 4, length + first_grown)
    return bytes(data)
