"""A file of captions that grows record by record, and that a run which was interrupted goes on with.

In: photographs with their captions; out: a file in one of the forms. A record is in it whole or not at all: half a one
that a crash has left is taken away. It must not know what the forms look like.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from wordlight.library.caption_files import FORMS, Form, NotOurs
from wordlight.library.outcome import CannotGoOn, Captioned
from wordlight.library.photographs import identity


class OutputRefused(CannotGoOn):
    """The file cannot be written, or should not be. The message is one line."""


class Output:
    """A file that is open; nobody else writes to it meanwhile."""

    def __init__(self, path: Path, form: Form) -> None:
        """Opens the file, or makes it, and finds what is in it. Raises OutputRefused."""
        self.path = path
        self._form = form
        self._captioned: set[str] = set()
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise OutputRefused(f"{path}: {error.strerror or error}") from error
        try:
            if not path.is_file():
                raise OutputRefused(f"{path}: this is no regular file")
            self._take_over()
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
        """Whether the photograph is in it."""
        return identity(path) in self._captioned

    def add(self, captioned: Captioned) -> None:
        """Write a record. Raises OutputRefused; then the file is as it was before."""
        self._write(self._form.record(captioned, self.path.absolute().parent))
        self._captioned.add(identity(captioned.path))

    def _take_over(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputRefused(f"{self.path}: another command is writing to it") from error
        with self.path.open("rb") as lines:
            whole = self._read(lines)
        self._file.truncate(whole)
        if not whole:
            self._write(self._form.head)

    def _read(self, lines: BinaryIO) -> int:
        """Remember what is in the file; returns how much of it is whole."""
        head = lines.readline() if self._form.head else b""
        if self._form.head.startswith(head) and head != self._form.head:  # empty, or cut off at once
            return 0
        if head != self._form.head:
            raise OutputRefused(f"{self.path}: there is something else in this file already")
        whole = len(head)
        try:
            for path, size in self._form.records(lines):
                self._captioned.add(identity(path))
                whole += size
        except NotOurs as error:
            raise OutputRefused(f"{self.path}: there is something else in this file already ({error})") from error
        return whole

    def _write(self, record: bytes) -> None:
        before = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(record)
            while written < len(record):  # a signal, or a disk that is nearly full
                written += self._file.write(record[written:])
        except BaseException as error:
            self._file.truncate(before)
            if isinstance(error, OSError):
                raise OutputRefused(f"{self.path}: {error.strerror or error}") from error
            raise


def form_of(path: Path) -> Form:
    """The form that the name asks for. Raises OutputRefused."""
    if form := FORMS.get(path.suffix.lower()):
        return form()
    raise OutputRefused(f"{path}: the name must end in {', '.join(list(FORMS)[:-1])} or {list(FORMS)[-1]}")
