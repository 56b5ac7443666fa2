"""Files of captions: JSON Lines, CSV and HTML.

A file grows record by record, and the next run continues it. A record that a crash cut short is removed.
"""

import csv
import fcntl
import html
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self
from urllib.parse import quote

from wordlight.library.outcome import CannotContinue, Captioned
from wordlight.library.photographs import identity

# File names that are not UTF-8 keep their bytes.
_ENCODING, _ERRORS = "utf-8", "surrogateescape"


class NotOurs(Exception):
    """The file was not written by Wordlight, or is damaged. The message is one line."""


class Format(Protocol):
    """A file format: a head, and then records, so that the file is complete after each record."""

    head: bytes

    def record(self, captioned: Captioned, folder: Path, /) -> bytes:
        """Format a photograph as one record. `folder` holds the file."""
        ...

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[str, int]]:
        """Yield the path in each whole record behind the head, and the size of the record in bytes.

        Stops at half a record, which a crash may leave at the end. Raises NotOurs.
        """
        ...


class JsonLines:
    """JSON Lines: one object per photograph, with all fields."""

    head = b""

    def record(self, captioned: Captioned, _folder: Path, /) -> bytes:
        """Format the object in ASCII and a line break."""
        return json.dumps(captioned.as_dict()).encode() + b"\n"

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[str, int]]:
        """See Format."""
        return _line_by_line(lines, b'{"path": "', lambda line: str(json.loads(line)["path"]))


class Page:
    """An HTML page of the photographs with captions as `alt` texts. It refers to the photographs by relative paths."""

    # HTML allows body and html without end tags, so that records can be appended.
    head = (
        b'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="generator" content="Wordlight">'
        b'<meta name="viewport" content="width=device-width"><title>Captions</title><style>'
        b":root{color-scheme:light dark;font:1rem/1.45 system-ui,sans-serif}"
        b"body{margin:2rem auto;padding:0 1rem;max-width:90rem;display:grid;gap:2rem;"
        b"grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr))}"
        b"h1,p{grid-column:1/-1;margin:0}figure{margin:0}img{width:100%;height:auto;border-radius:.3rem}"
        b"small{display:block;overflow-wrap:anywhere;opacity:.75}</style>"
        b"<h1>Captions</h1><p>Written by a program, which can be wrong.</p>\n"
    )

    def record(self, captioned: Captioned, folder: Path, /) -> bytes:
        """Format a figure with the picture and its caption."""
        caption, size = captioned.best, captioned.image
        address = quote(os.fsencode(os.path.relpath(captioned.path, folder)))
        doubt = " (not confident)" if caption.confident is False else ""
        path = _escaped(str(captioned.path))
        return (
            f'<figure data-path="{path}"><img src="{address}" alt="{_escaped(caption.text)}" '
            f'width="{size.width}" height="{size.height}" loading="lazy"><figcaption>{_escaped(caption.text)}{doubt}'
            f"<small>{path}</small></figcaption></figure>\n"
        ).encode(_ENCODING, _ERRORS)

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[str, int]]:
        """See Format."""
        return _line_by_line(lines, b'<figure data-path="', _path_in_figure)


class Csv:
    """A table with a row per photograph, for spreadsheets."""

    head = b"path,caption,confidence,confident,logprob,width,height\r\n"

    def record(self, captioned: Captioned, _folder: Path, /) -> bytes:
        """Format a row. It is one line unless the file name has a line break."""
        caption, size = captioned.best, captioned.image
        row = io.StringIO(newline="")
        confident = {True: "yes", False: "no", None: ""}[caption.confident]
        csv.writer(row).writerow(
            [captioned.path, caption.text, caption.confidence, confident, caption.logprob, size.width, size.height]
        )
        return row.getvalue().encode(_ENCODING, _ERRORS)

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[str, int]]:
        """See Format."""
        taken, ended = 0, False

        def text() -> Iterator[str]:
            nonlocal taken, ended
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                taken += len(line)
                yield line.decode(_ENCODING, _ERRORS)
            ended = True

        columns = self.head.count(b",") + 1
        rows = csv.reader(text(), strict=True)
        try:
            for number, row in enumerate(rows, start=2):
                if len(row) != columns:
                    raise NotOurs(f"row {number} has {len(row)} columns")
                yield row[0], taken
                taken = 0
        except csv.Error as error:
            if not ended:  # otherwise the file ends within a quoted field
                raise NotOurs(f"a row is damaged: {error}") from error


FORMATS: dict[str, type[Format]] = {".jsonl": JsonLines, ".csv": Csv, ".html": Page}


class FileRefused(CannotContinue):
    """The file cannot or must not be written. The message is one line."""


class CaptionFile:
    """An open file of captions, locked against other commands."""

    def __init__(self, path: Path, format: Format) -> None:
        """Open or create the file and read which photographs are in it. Raises FileRefused."""
        self.path = path
        self._format = format
        self._captioned: set[str] = set()
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise FileRefused(f"{path}: {error.strerror or error}") from error
        try:
            if not path.is_file():
                raise FileRefused(f"{path}: this is not a regular file")
            self._lock_and_read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def has(self, path: Path) -> bool:
        """Return whether the file has a record of the photograph."""
        return identity(path) in self._captioned

    def add(self, captioned: Captioned) -> None:
        """Append a record. Raises FileRefused and leaves the file as it was."""
        self._write(self._format.record(captioned, self.path.absolute().parent))
        self._captioned.add(identity(captioned.path))

    def _lock_and_read(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileRefused(f"{self.path}: another command is writing to it") from error
        with self.path.open("rb") as lines:
            whole = self._read(lines)
        self._file.truncate(whole)
        if not whole:
            self._write(self._format.head)

    def _read(self, lines: BinaryIO) -> int:
        """Read which photographs are in the file. Return how many bytes of it are whole records."""
        head = lines.readline() if self._format.head else b""
        if self._format.head.startswith(head) and head != self._format.head:  # empty, or cut off within the head
            return 0
        if head != self._format.head:
            raise FileRefused(f"{self.path}: this file holds something else")
        whole = len(head)
        try:
            for path, size in self._format.records(lines):
                self._captioned.add(identity(path))
                whole += size
        except NotOurs as error:
            raise FileRefused(f"{self.path}: this file holds something else ({error})") from error
        return whole

    def _write(self, record: bytes) -> None:
        before = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(record)
            while written < len(record):  # after a signal, or on a disk that is nearly full
                written += self._file.write(record[written:])
        except BaseException as error:
            self._file.truncate(before)
            if isinstance(error, OSError):
                raise FileRefused(f"{self.path}: {error.strerror or error}") from error
            raise


def format_of(path: Path) -> Format:
    """Return the format for a file name. Raises FileRefused."""
    if kind := FORMATS.get(path.suffix.lower()):
        return kind()
    raise FileRefused(f"{path}: the name must end in {', '.join(list(FORMATS)[:-1])} or {list(FORMATS)[-1]}")


def _line_by_line(lines: Iterable[bytes], begin: bytes, path_in: Callable[[bytes], str]) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(lines, start=1):
        half = not line.endswith(b"\n")
        if not line.startswith(begin) and not (half and begin.startswith(line)):
            raise NotOurs(f"record {number} is not a caption")
        if half:
            return
        try:
            yield path_in(line), len(line)
        except (ValueError, LookupError, TypeError) as error:
            raise NotOurs(f"record {number} is damaged") from error


def _path_in_figure(line: bytes) -> str:
    _, escaped, rest = line.decode(_ENCODING, _ERRORS).split('"', 2)
    if not rest.startswith("><img "):
        raise ValueError("not a figure")
    return html.unescape(escaped)


def _escaped(text: str) -> str:
    """Escape text for HTML, on one line."""
    return html.escape(text).replace("\r", "&#13;").replace("\n", "&#10;")
