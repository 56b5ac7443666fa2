"""Picture files as they are handed out. In: a folder or a ZIP archive; out: the bytes of a file by its name.

It must not know of captions or of what is in a picture.
"""

import zipfile
import zlib
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from model.training.dataset import DatasetUnusable


class PictureFiles:
    """The files of a folder, or of an archive in whatever folder of it they are."""

    def __init__(self, place: Path) -> None:
        """Raises DatasetUnusable."""
        self.place = place
        self._archive: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        if place.is_dir():
            return
        try:
            self._archive = zipfile.ZipFile(place)
        except OSError as error:
            raise DatasetUnusable(f"no pictures: {place}: {error.strerror or error}") from error
        except zipfile.BadZipFile as error:
            raise DatasetUnusable(f"{place} is neither a folder nor a ZIP archive: {error}") from error
        for member in self._archive.infolist():
            # macOS adds a folder with a "._" file for each.
            if not member.is_dir() and not member.filename.startswith("__MACOSX/"):
                self._members[PurePosixPath(member.filename).name] = member
                self._members[member.filename] = member

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._archive is not None:
            self._archive.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members if self._archive is not None else (self.place / name).is_file()

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises OSError for one that is not there or cannot be read."""
        if self._archive is None:
            return (self.place / name).read_bytes()
        try:
            return self._archive.read(self._members[name])
        except KeyError:
            raise FileNotFoundError(2, f"not in {self.place}", name) from None
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,
            NotImplementedError,
        ) as error:  # damaged, encrypted, or a rare method
            raise OSError(5, f"cannot be read from {self.place}: {error}", name) from error
