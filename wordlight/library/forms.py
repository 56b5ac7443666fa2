"""The forms in which captions are written to a file: JSON Lines, CSV, and a page to look at.

In: a photograph with its captions; out: one line, and from such lines the paths that are in them. What they have in
common: a head, then records one below the other, so that a file is complete after each of them. It must not know how
files are written.
"""

import csv
import html
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from wordlight.library.record import Captioned

# Names that are no UTF-8 come back as the bytes that they were.
_ENCODING, _ERRORS = "utf-8", "surrogateescape"


class NotOurs(Exception):
    """A file holds something that Wordlight has not written. The message is one line."""


class Form(Protocol):
    """How captions look in a file."""

    head: bytes

    def record(self, captioned: Captioned, folder: Path, /) -> bytes:
        """A photograph as one record; `folder` is where the file is."""
        ...

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[str, int]]:
        """The path in each whole record of the lines behind the head, and how many bytes it takes.

        Stops before half a record, as a crash leaves it. Raises NotOurs.
        """
        ...


class JsonLines:
    """One object a line, with all that is known."""

    head = b""

    def record(self, captioned: Captioned, _folder: Path, /) -> bytes:
        """The object and a line break; every other character is escaped where it is not ASCII."""
        return json.dumps(captioned.as_dict()).encode() + b"\n"

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[str, int]]:
        """As Form has it."""
        return _line_by_line(lines, b'{"path": "', lambda line: str(json.loads(line)["path"]))


class Page:
    """A page of pictures whose `alt` texts are their captions; beside the photographs it can be opened as it is."""

    # HTML does without the ends of body and html, so that pictures can follow for ever.
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
        """A figure: the picture, found from where the page is, with its caption."""
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
        """As Form has it."""
        return _line_by_line(lines, b'<figure data-path="', _path_in_figure)


class Csv:
    """A table with a row for each photograph, as spreadsheets read it."""

    head = b"path,caption,confidence,confident,logprob,width,height\r\n"

    def record(self, captioned: Captioned, _folder: Path, /) -> bytes:
        """A row; it is one line unless there is a line break in the file's name."""
        caption, size = captioned.best, captioned.image
        row = io.StringIO(newline="")
        confident = {True: "yes", False: "no", None: ""}[caption.confident]
        csv.writer(row).writerow(
            [captioned.path, caption.text, caption.confidence, confident, caption.logprob, size.width, size.height]
        )
        return row.getvalue().encode(_ENCODING, _ERRORS)

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[str, int]]:
        """As Form has it."""
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
            if not ended:  # else the end came within a quotation
                raise NotOurs(f"a row is damaged: {error}") from error


FORMS: dict[str, type[Form]] = {".jsonl": JsonLines, ".csv": Csv, ".html": Page}


def _line_by_line(lines: Iterable[bytes], begin: bytes, path_in: "PathIn") -> Iterator[tuple[str, int]]:
    for number, line in enumerate(lines, start=1):
        half = not line.endswith(b"\n")
        if not line.startswith(begin) and not (half and begin.startswith(line)):
            raise NotOurs(f"record {number} is none of a caption")
        if half:
            return
        try:
            yield path_in(line), len(line)
        except (ValueError, LookupError, TypeError) as error:
            raise NotOurs(f"record {number} is damaged") from error


class PathIn(Protocol):
    """Finds the path in a line."""

    def __call__(self, line: bytes, /) -> str: ...


def _path_in_figure(line: bytes) -> str:
    _, escaped, rest = line.decode(_ENCODING, _ERRORS).split('"', 2)
    if not rest.startswith("><img "):
        raise ValueError("no figure")
    return html.unescape(escaped)


def _escaped(text: str) -> str:
    """Text for HTML, on one line."""
    return html.escape(text).replace("\r", "&#13;").replace("\n", "&#10;")
