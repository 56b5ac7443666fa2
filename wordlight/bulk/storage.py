"""Storage for pictures and captions: a local folder or a bucket.

Supports the URLs of pyarrow (s3://, gs://, hdfs://, file://) and of fsspec.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import fsspec
from pyarrow import ArrowException, fs

from model.files import write_whole
from wordlight.library.photographs import SUFFIXES


class StorageUnusable(Exception):
    """The folder or bucket cannot be read. The message is one line."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file: its path below the storage's root, and its size in bytes."""

    path: str
    size: int


class Storage:
    """A folder or a bucket. Every method may raise OSError."""

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._root = system, root.rstrip("/") or "/"

    @classmethod
    def at(cls, location: str) -> Self:
        """Return the storage at a path or URL, which need not exist yet. Raises StorageUnusable."""
        if "://" not in location:
            return cls(fs.LocalFileSystem(), str(Path(location).absolute()))
        try:
            try:
                system, root = fs.FileSystem.from_uri(location)
            except (ArrowException, ValueError):  # not a scheme of pyarrow
                other, root = fsspec.core.url_to_fs(location)
                system = fs.PyFileSystem(fs.FSSpecHandler(other))
        except (ArrowException, OSError, ValueError, ImportError) as error:
            raise StorageUnusable(f"cannot reach the bucket: {_line(error)}") from error
        return cls(system, root)

    def pictures(self) -> list[StoredFile]:
        """List files with a picture's suffix at any depth, in order of their paths. Raises StorageUnusable."""
        return [file for file in self.files() if os.path.splitext(file.path)[1].lower() in SUFFIXES]  # noqa: PTH122

    def files(self, *, must_exist: bool = True) -> list[StoredFile]:
        """List all files at any depth, in order of their paths. Raises StorageUnusable."""
        selector = fs.FileSelector(self._root, recursive=True, allow_not_found=not must_exist)
        try:
            infos = self._system.get_file_info(selector)
        except (ArrowException, OSError) as error:
            raise StorageUnusable(f"cannot read {self._root}: {_line(error)}") from error
        below = len(self._root.rstrip("/")) + 1
        files = [StoredFile(info.path[below:], info.size or 0) for info in infos if info.type == fs.FileType.File]
        return sorted(files, key=lambda file: file.path)

    def read(self, path: str, most: int | None = None) -> bytes:
        """Read a file, or its first `most` bytes."""
        with self._system.open_input_stream(f"{self._root}/{path}") as stream:
            data = stream.read() if most is None else stream.read(most)
        return bytes(data)

    def write(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        target = f"{self._root}/{path}"
        if isinstance(self._system, fs.LocalFileSystem):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            write_whole(Path(target), data)
        else:  # an object in a bucket appears when its upload is complete
            with self._system.open_output_stream(target) as stream:
                stream.write(data)


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
