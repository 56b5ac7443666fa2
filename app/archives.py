"""A ZIP file of pictures: its files, one after the other, whatever a stranger put into it.

In: an open archive; out: open files, or for each that cannot be had a sentence that says why. It must not know what is
in the files. Everything here blocks, and is for a thread.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

_IN_MEMORY_BYTES: Final = 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_LONGEST_NAME: Final = 120

# What is read of an archive before its files: bounded, because the library keeps all of it in memory.
_MOST_ENTRIES: Final = 2000
_MOST_DIRECTORY_BYTES: Final = 1024 * 1024

# The end of the central directory (APPNOTE.TXT 4.3.16), and the longest comment that may follow it.
_END: Final = struct.Struct("<4s4H2LH")
_END_SIGNATURE: Final = b"PK\5\6"
_LONGEST_COMMENT: Final = 65_535
_ZIP64_LOCATOR: Final = (20, b"PK\6\7")
_LOCAL_HEADER_BYTES: Final = 30

_NOT_PICTURES: Final = {"__MACOSX", "Thumbs.db", "desktop.ini"}

# What the library raises for a file that is not as its headers say. Offsets may be too large for any file, and names
# not be in the encoding that they claim.
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


class ArchiveRefused(Exception):
    """The archive as a whole is not taken. The message is one sentence for the person who sent it."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may hold, and expand to."""

    files: int
    file_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive: open, for the receiver to close, or a sentence that says why it cannot be had.

    `expanded` is how many bytes were taken out of the archive for it, even if none of them can be had.
    """

    name: str
    content: BinaryIO | str
    expanded: int


def is_archive(file: BinaryIO) -> bool:
    """Whether a file begins like a ZIP archive. Leaves it at its start."""
    start = file.read(4)
    file.seek(0)
    return start in (b"PK\3\4", _END_SIGNATURE)


def members(archive: BinaryIO, limits: ArchiveLimits) -> Iterator[Member]:
    """The files in `archive`, without those that systems leave in folders. Raises ArchiveRefused."""
    _check_directory(archive)
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise ArchiveRefused("The archive is damaged or cut short.") from error
    with opened:
        entries = opened.infolist()
        if len(entries) > _MOST_ENTRIES:
            raise ArchiveRefused(f"The archive has more than {_MOST_ENTRIES} entries.")
        _check_overlaps(entries)
        entries = [entry for entry in entries if not _skipped(entry)]
        if not entries:
            raise ArchiveRefused("The archive holds no files.")
        if len(entries) > limits.files:
            raise ArchiveRefused(f"The archive holds more than {limits.files} files.")
        left = limits.total_bytes
        for entry in entries:
            member = _extract(opened, entry, limits.file_bytes, left)
            left -= member.expanded
            yield member


def _check_directory(archive: BinaryIO) -> None:
    """Look at the end record before the library does: it would read whatever that one announces."""
    size = archive.seek(0, 2)
    before, locator = _ZIP64_LOCATOR
    archive.seek(max(0, size - before - _END.size - _LONGEST_COMMENT))
    tail = archive.read()
    archive.seek(0)
    # The library looks in the same places, in the same order.
    at = len(tail) - _END.size
    if at < 0 or not (tail[at:].startswith(_END_SIGNATURE) and tail.endswith(b"\0\0")):
        at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveRefused("The archive is damaged or cut short.")
    _, disk, first_disk, _, entries, directory_bytes, _, _ = _END.unpack_from(tail, at)
    if disk or first_disk:
        raise ArchiveRefused("Archives in several parts are not taken.")
    if tail[max(0, at - before) :].startswith(locator):
        raise ArchiveRefused("ZIP64 archives are not taken.")
    if entries > _MOST_ENTRIES or directory_bytes > _MOST_DIRECTORY_BYTES:
        raise ArchiveRefused(f"The archive has more than {_MOST_ENTRIES} entries, or very long names.")


def _check_overlaps(entries: list[zipfile.ZipInfo]) -> None:
    """Refuse files that share their bytes: so a small archive expands to a huge one (Fifield, 2019)."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < 0:
            raise ArchiveRefused("The archive is damaged or cut short.")
        if entry.header_offset < end:
            raise ArchiveRefused("Files in the archive overlap.")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size


def _skipped(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename).parts
    return entry.is_dir() or any((part.startswith(".") and part != "..") or part in _NOT_PICTURES for part in parts)


def _extract(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, file_bytes: int, left: int) -> Member:
    """The file, at its start, or why it cannot be had. Raises ArchiveRefused when `left` is not enough."""
    name, expanded = shown_name(entry.filename), 0
    if entry.flag_bits & 1:
        return Member(name, "The file is encrypted.", expanded)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Member(name, "The file is compressed in a way that is not taken.", expanded)
    with ExitStack() as undo:
        file = undo.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES))
        try:
            with opened.open(entry) as source:
                # What the headers say of sizes is not believed.
                while chunk := source.read(_CHUNK_BYTES):
                    expanded += len(chunk)
                    if expanded > left:
                        raise ArchiveRefused("The archive expands to too many bytes.")
                    if expanded > file_bytes:
                        return Member(name, f"The file is larger than {file_bytes:,} bytes.", expanded)
                    file.write(chunk)
        except _DAMAGED:
            return Member(name, "The file is damaged in the archive.", expanded)
        file.seek(0)
        undo.pop_all()
        return Member(name, cast(BinaryIO, file), expanded)


def shown_name(name: str) -> str:
    """A file's name as a stranger gave it, to show, never to use as a path."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    printable = "".join(character for character in last if character.isprintable())
    return printable[-_LONGEST_NAME:] or "file"
