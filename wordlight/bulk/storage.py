"""A folder, here or in a bucket. In: a path or a URL; out: the pictures in it, and bytes read and written.

Whatever pyarrow knows is a place (s3://, gs://, hdfs://, file://), and through it what fsspec knows.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import fsspec
from pyarrow import ArrowException, fs

from wordlight.library.photographs import SUFFIXES


class NoSuchPlace(Exception):
    """A place that cannot be looked into. The message is one line."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file: where it is below its place, and how many bytes it has."""

    path: str
    size: int


class Place:
    """A folder. Every method may raise OSError."""

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._root = system, root.rstrip("/") or "/"

    @classmethod
    def at(cls, where: str) -> Self:
        """The folder at a path or URL, which need not be there. Raises NoSuchPlace."""
        if "://" not in where:
            return cls(fs.LocalFileSystem(), str(Path(where).absolute()))
        try:
            try:
                system, root = fs.FileSystem.from_uri(where)
            except (ArrowException, ValueError):  # no scheme of its own
                other, root = fsspec.core.url_to_fs(where)
                system = fs.PyFileSystem(fs.FSSpecHandler(other))
        except (ArrowException, OSError, ValueError, ImportError) as error:
            raise NoSuchPlace(f"cannot reach the bucket: {_line(error)}") from error
        return cls(system, root)

    def pictures(self) -> list[Found]:
        """Files that by their names are pictures, at any depth, in the order of their names. Raises NoSuchPlace."""
        return [found for found in self.files() if os.path.splitext(found.path)[1].lower() in SUFFIXES]  # noqa: PTH122

    def files(self, *, must_exist: bool = True) -> list[Found]:
        """All files, at any depth, in the order of their names. Raises NoSuchPlace."""
        selector = fs.FileSelector(self._root, recursive=True, allow_not_found=not must_exist)
        try:
            infos = self._system.get_file_info(selector)
        except (ArrowException, OSError) as error:
            raise NoSuchPlace(f"cannot look into {self._root}: {_line(error)}") from error
        below = len(self._root.rstrip("/")) + 1
        files = [Found(info.path[below:], info.size or 0) for info in infos if info.type == fs.FileType.File]
        return sorted(files, key=lambda found: found.path)

    def read(self, path: str, most: int | None = None) -> bytes:
        """What is in a file, or its first `most` bytes."""
        with self._system.open_input_stream(f"{self._root}/{path}") as stream:
            data = stream.read() if most is None else stream.read(most)
        return bytes(data)

    def write(self, path: str, data: bytes) -> None:
        """Put a file there, whole or not at all."""
        target = f"{self._root}/{path}"
        if not isinstance(self._system, fs.LocalFileSystem):
            # An object in a bucket is there when all of it is.
            with self._system.open_output_stream(target) as stream:
                stream.write(data)
            return
        final = Path(target)
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished = final.with_name(f".{final.name}.{os.getpid()}")
        try:
            with unfinished.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(final)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
