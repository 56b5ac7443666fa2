"""The caption of a JPEG file in IPTC's form, as photo libraries and agencies read it.

In: the bytes of a file; out: the same with the caption in it: IPTC-IIM 2:120 in a Photoshop block and, where the file
has XMP, the description there, as the Metadata Working Group's guidelines have it. No pixel changes, and nothing else
that the file says. It must not know where files are.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wordlight.library.jpeg import APP0, APP1, APP13, MOST_BYTES, DamagedJpeg, Segment, join, split
from wordlight.library.xmp import description_in, with_description

_PHOTOSHOP: Final = b"Photoshop 3.0\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_IPTC, _DIGEST = 0x0404, 0x0425  # resources of a Photoshop block
_SIGNATURES: Final = (b"8BIM", b"AgHg", b"DCSR", b"PHUT")
_CHARACTERS, _VERSION, _CAPTION = (1, 90), (2, 0), (2, 120)
_UTF8: Final = b"\x1b%G"
_MOST_CAPTION_BYTES: Final = 2000  # as the standard has it

Datasets = list[tuple[tuple[int, int], bytes]]


@dataclass(frozen=True, slots=True)
class _Resource:
    """One thing in a Photoshop block."""

    number: int
    data: bytes
    signature: bytes = b"8BIM"
    name: bytes = b"\0\0"  # as it is in the file, with its length and padding


def caption_in(jpeg: bytes) -> str:
    """The caption, or else the description in XMP, that is in a JPEG file already. Raises ValueError."""
    segments, _ = split(jpeg)
    datasets = _datasets(_resources(segments))
    said = [value.decode(errors="replace").strip() for name, value in datasets if name == _CAPTION]
    said += [description_in(segment.data.removeprefix(_XMP)) for segment in segments if _is_xmp(segment)]
    return next(filter(None, said), "")


def with_caption(jpeg: bytes, text: str) -> bytes:
    """The file with this caption, in place of any other. Raises ValueError with one line."""
    segments, rest = split(jpeg)
    resources = _resources(segments)
    datasets = _with_text(_datasets(resources), text)
    block = b"".join(b"\x1c" + bytes(name) + _length(value) + value for name, value in datasets)
    # By the digest others tell whether the block was changed by somebody who knows no XMP.
    new = {_IPTC: block, _DIGEST: hashlib.md5(block, usedforsecurity=False).digest()}
    kept = [replace(one, data=new.get(one.number, one.data)) for one in resources]
    if not any(one.number == _IPTC for one in resources):
        kept.append(_Resource(_IPTC, block))
    others = [_described(segment, text) for segment in segments if not _is_photoshop(segment)]
    place = next((at for at, one in enumerate(others) if one.marker not in (APP0, APP1)), len(others))
    return join(segments, [*others[:place], *_photoshop(kept), *others[place:]], rest)


def _described(segment: Segment, text: str) -> Segment:
    """A segment of XMP with the same description; any other as it is."""
    if not _is_xmp(segment):
        return segment
    data = _XMP + with_description(segment.data.removeprefix(_XMP), text)
    if len(data) > MOST_BYTES:
        raise DamagedJpeg("its XMP is so long that no description fits in")
    return Segment(segment.marker, data)


def _is_xmp(segment: Segment) -> bool:
    return segment.marker == APP1 and segment.data.startswith(_XMP)


def _is_photoshop(segment: Segment) -> bool:
    return segment.marker == APP13 and segment.data.startswith(_PHOTOSHOP)


def _resources(segments: Sequence[Segment]) -> list[_Resource]:
    """What is in the Photoshop blocks; one thing may reach over several segments. Raises DamagedJpeg."""
    data = b"".join(segment.data.removeprefix(_PHOTOSHOP) for segment in segments if _is_photoshop(segment))
    resources, at = [], 0
    while data[at:].strip(b"\0"):
        named = at + 6
        sized = named + _even(1 + data[named]) if len(data) > named else len(data)
        size = int.from_bytes(data[sized : sized + 4], "big")
        begin = sized + 4
        if data[at : at + 4] not in _SIGNATURES or begin + size > len(data):
            raise DamagedJpeg("the Photoshop block of this JPEG file is damaged")
        number = int.from_bytes(data[at + 4 : named], "big")
        resources.append(_Resource(number, data[begin : begin + size], data[at : at + 4], data[named:sized]))
        at = begin + _even(size)
    return resources


def _photoshop(resources: Sequence[_Resource]) -> Iterator[Segment]:
    """The segments of a Photoshop block."""
    data = b"".join(
        one.signature
        + one.number.to_bytes(2, "big")
        + one.name
        + len(one.data).to_bytes(4, "big")
        + one.data.ljust(_even(len(one.data)), b"\0")
        for one in resources
    )
    most = MOST_BYTES - len(_PHOTOSHOP)
    for start in range(0, len(data), most):
        yield Segment(APP13, _PHOTOSHOP + data[start : start + most])


def _datasets(resources: Sequence[_Resource]) -> Datasets:
    """What IPTC's form says, in its order. Raises DamagedJpeg."""
    data = b"".join(one.data for one in resources if one.number == _IPTC)
    datasets: Datasets = []
    at = 0
    while data[at:].strip(b"\0"):
        size, begin = int.from_bytes(data[at + 3 : at + 5], "big"), at + 5
        if size & 0x8000:  # the length of the length
            longer = size & 0x7FFF
            size, begin = int.from_bytes(data[begin : begin + longer], "big"), begin + longer
        if data[at] != 0x1C or begin + size > len(data):
            raise DamagedJpeg("the IPTC block of this JPEG file is damaged")
        datasets.append(((data[at + 1], data[at + 2]), data[begin : begin + size]))
        at = begin + size
    return datasets


def _with_text(datasets: Datasets, text: str) -> Datasets:
    """With the caption, and what must be said before it can be."""
    others = [(name, value) for name, value in datasets if name != _CAPTION]
    new = [(_CAPTION, text.encode()[:_MOST_CAPTION_BYTES].decode(errors="ignore").encode())]
    if not any(name[0] == _VERSION[0] for name, _ in others):
        new.insert(0, (_VERSION, b"\0\4"))
    if not text.isascii() and (_CHARACTERS, _UTF8) not in others:
        if any(name == _CHARACTERS or not value.isascii() for name, value in others if name[0] <= _CAPTION[0]):
            raise DamagedJpeg("the IPTC text there is in an encoding in which the caption cannot be written")
        new.insert(0, (_CHARACTERS, _UTF8))
    # Sets of one record are together; what is there keeps its order.
    return sorted(others + new, key=lambda dataset: dataset[0][0] if dataset[0] != _CHARACTERS else 0.5)


def _length(value: bytes) -> bytes:
    """Long values have the length of their length before it."""
    if len(value) < 0x8000:
        return len(value).to_bytes(2, "big")
    return b"\x80\4" + len(value).to_bytes(4, "big")


def _even(size: int) -> int:
    return size + size % 2
