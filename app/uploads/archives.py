"""Reads the files of untrusted ZIP archives, strictly and within bounds.

For a file that cannot be extracted, the result is a sentence that says why. Nested archives are not opened. All
functions block; call them in a thread.
"""

import copy
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

from app.uploads.fields import display_name

_IN_MEMORY_BYTES: Final = 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024

# Bounds on the central directory, which zipfile keeps in memory.
_MOST_ENTRIES: Final = 2000
_MOST_DIRECTORY_BYTES: Final = 1024 * 1024

_FILE_SIGNATURE: Final = b"PK\3\4"
# The end of central directory record (APPNOTE.TXT 4.3.16), and the longest comment after it.
_END: Final = struct.Struct("<4s4H2LH")
_END_SIGNATURE: Final = b"PK\5\6"
_LONGEST_COMMENT: Final = 65_535
_ZIP64_LOCATOR_BYTES: Final = 20
_ZIP64_LOCATOR_SIGNATURE: Final = b"PK\6\7"
_LOCAL_HEADER_BYTES: Final = 30

_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000  # traditional, strong, and with an encrypted directory
_UTF8_NAME: Final = 0x800
# Neither a photograph nor a scan of an empty page compresses this well; a zip bomb does, to a thousandth.
_BOMB_BYTES: Final = 10 * 1024 * 1024
_BOMB_RATIO: Final = 200

_NOT_PICTURES: Final = {"__MACOSX", "Thumbs.db", "desktop.ini"}

_DAMAGED: Final = "The archive is damaged or truncated."
_FILE_DAMAGED: Final = "The file in the archive is damaged."


class ArchiveRefused(Exception):
    """The archive as a whole is refused. The message is one sentence for the person who sent it."""


class _FileRefused(Exception):
    """One file cannot be extracted. The message is one sentence for the person who sent it."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bounds on the files of an archive and their extracted bytes."""

    files: int
    file_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive: opened, for the caller to close, or a sentence that says why it cannot be extracted."""

    name: str
    content: BinaryIO | str


def is_archive(file: BinaryIO) -> bool:
    """Tell whether a file begins like a ZIP archive. Leaves its position at the start."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return start in (_FILE_SIGNATURE, _END_SIGNATURE)


def members(archive: BinaryIO, limits: ArchiveLimits) -> Iterator[Member]:
    """Extract the files in `archive`, without hidden files and those that operating systems add.

    Raises ArchiveRefused before the first file, and OSError if a file cannot be stored.
    """
    directory = _directory(archive)
    try:
        opened = zipfile.ZipFile(archive)
        entries = opened.infolist()
    except Exception as error:  # zipfile raises many kinds of errors
        raise ArchiveRefused(_DAMAGED) from error
    if len(entries) != directory.entries:
        raise ArchiveRefused(_DAMAGED)
    _check_overlaps(entries, directory.start)
    entries = [entry for entry in entries if not _is_skipped(entry)]
    if not entries:
        raise ArchiveRefused("The archive holds no files.")
    if len(entries) > limits.files:
        raise ArchiveRefused(f"The archive holds {len(entries):,} files; at most {limits.files:,} are allowed.")
    # The sizes in headers may be wrong, but extraction enforces them: no file becomes larger than stated.
    if sum(entry.file_size for entry in entries if entry.file_size <= limits.file_bytes) > limits.total_bytes:
        raise ArchiveRefused(f"The archive expands to more than {limits.total_bytes:,} bytes.")
    for entry in entries:
        yield Member(display_name(_name(entry)), _content(opened, entry, limits.file_bytes))


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the central directory starts, and how many entries it claims to have."""

    start: int
    entries: int


def _directory(archive: BinaryIO) -> _Directory:
    """Check the end record before zipfile reads what it announces.

    Only plain archives pass: one disk, nothing before the first file, nothing after the end record. So zipfile, which
    searches for the same signature, finds the same record.
    """
    if not is_archive(archive):
        raise ArchiveRefused("The file is not a ZIP archive, or other data precedes it.")
    archive.seek(0, 2)
    size = archive.tell()
    archive.seek(max(0, size - _ZIP64_LOCATOR_BYTES - _END.size - _LONGEST_COMMENT))
    tail = archive.read()
    archive.seek(0)
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveRefused(_DAMAGED)
    _, disk, first_disk, disk_entries, entries, length, start, comment = _END.unpack_from(tail, at)
    locator = tail[max(0, at - _ZIP64_LOCATOR_BYTES) : at]
    if (
        locator.startswith(_ZIP64_LOCATOR_SIGNATURE)
        or 0xFFFF in (disk_entries, entries)
        or 0xFFFFFFFF in (length, start)
    ):
        raise ArchiveRefused("ZIP64 archives are not supported.")
    if disk or first_disk or disk_entries != entries:
        raise ArchiveRefused("Archives in several parts are not supported.")
    if entries > _MOST_ENTRIES or length > _MOST_DIRECTORY_BYTES:
        raise ArchiveRefused(f"The archive has more than {_MOST_ENTRIES:,} entries, or very long names.")
    position = size - len(tail) + at
    if start + length != position or position + _END.size + comment != size:
        raise ArchiveRefused(_DAMAGED)
    return _Directory(start, entries)


def _check_overlaps(entries: list[zipfile.ZipInfo], directory_start: int) -> None:
    """Refuse overlapping files, by which a small archive can expand to a huge one (Fifield, 2019)."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise ArchiveRefused("Files in the archive overlap.")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size
    if end > directory_start:
        raise ArchiveRefused(_DAMAGED)


def _name(entry: zipfile.ZipInfo) -> str:
    """The entry's name. macOS writes UTF-8 without the flag for it, which zipfile then decodes as code page 437."""
    if not entry.flag_bits & _UTF8_NAME:
        with suppress(UnicodeError):
            return entry.filename.encode("cp437").decode()
    return entry.filename


def _is_skipped(entry: zipfile.ZipInfo) -> bool:
    *folders, last = re.split(r"[/\\]", entry.filename)
    is_folder = bool(folders) and not last
    hidden = any(part.startswith(".") and part not in (".", "..") for part in (*folders, last))
    return is_folder or hidden or not _NOT_PICTURES.isdisjoint((*folders, last))


def _content(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> BinaryIO | str:
    file = cast(BinaryIO, SpooledTemporaryFile(_IN_MEMORY_BYTES))  # noqa: SIM115
    try:
        _check_header(entry, most)
        _extract(opened, entry, file)
    except BaseException as error:
        with suppress(OSError):
            file.close()
        if isinstance(error, _FileRefused):
            return str(error)
        raise
    return file


def _check_header(entry: zipfile.ZipInfo, most: int) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise _FileRefused("The file is encrypted.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _FileRefused("The compression method of the file is not supported.")
    if entry.file_size > most:
        raise _FileRefused(f"The file is larger than {most:,} bytes.")
    if entry.file_size > max(_BOMB_BYTES, _BOMB_RATIO * entry.compress_size):
        raise _FileRefused(f"The file is compressed to less than 1/{_BOMB_RATIO} of its size.")


def _extract(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, file: BinaryIO) -> None:
    """Write the entry's bytes to `file` and rewind it."""
    # zipfile stops silently at the stated size. Asking for one byte more reveals a larger file.
    one_more = copy.copy(entry)
    one_more.file_size += 1
    try:
        with opened.open(one_more) as source:
            while chunk := source.read(_CHUNK_BYTES):
                file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise _FileRefused(_FILE_DAMAGED) from error
    if file.tell() != entry.file_size:
        raise _FileRefused(_FILE_DAMAGED)
    file.seek(0)
