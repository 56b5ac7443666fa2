"""Which files to caption. In: paths as somebody gave them; out: files, each once.

It must not know what is in the files.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

# Of the formats that app/images/picture.py decodes. A file that is given by name is tried whatever its name.
_NAMES = "jpg jpeg jpe jfif mpo png webp gif bmp tif tiff avif"
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split(" "))


def photographs(paths: Sequence[Path], *, recursive: bool, without: Path | None = None) -> list[Path]:
    """The files among `paths` as they are given and, if `recursive`, the pictures in the folders, in their order.

    What begins with a dot in a folder is left out, thumbnails and the doubles of some file systems among them, and
    links to folders are not followed, since they may lead in circles. So is the folder `without`. A file that is met
    again is not repeated.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for file in _pictures(path, without) if recursive and path.is_dir() else [path]:
            found.setdefault(identity(file), file)
    return list(found.values())


def identity(path: Path | str) -> str:
    """What is the same for two ways to write one path."""
    return os.path.abspath(path)  # noqa: PTH100  resolving links would take a look at the disk for each


def unfit(path: Path) -> str | None:
    """Why there is no file to read, where that is known without reading. Raises OSError."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return "this is a folder; with --recursive the pictures in it are captioned"
    return None if stat.S_ISREG(mode) else "this is no regular file"


def _pictures(folder: Path, without: Path | None) -> Iterator[Path]:
    left_out = identity(without) if without else None
    for where, folders, files in os.walk(folder):
        if identity(where) == left_out:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(where) / name
