"""Find the photographs that the user's paths name."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

# Suffixes of the formats that app/images/picture.py decodes. A file that the user names is tried whatever its suffix.
_NAMES = "jpg jpeg jpe jfif mpo png webp gif bmp tif tiff avif"
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split(" "))


def photographs(paths: Sequence[Path], *, recursive: bool, without: Path | None = None) -> list[Path]:
    """Return the files among `paths` and, if `recursive`, the pictures in their folders, each once and in order.

    Skips names that begin with a dot (thumbnails, and the resource forks of macOS), the folder `without`, and links to
    folders, which may form circles.
    """
    unique: dict[str, Path] = {}
    for path in paths:
        for file in _pictures(path, without) if recursive and path.is_dir() else [path]:
            unique.setdefault(identity(file), file)
    return list(unique.values())


def identity(path: Path | str) -> str:
    """Return a name that is equal for two spellings of one path."""
    return os.path.abspath(path)  # noqa: PTH100  resolving links would read the disk for each path


def unfit(path: Path) -> str | None:
    """Return why the path is not a file that can be read, or None. Raises OSError."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return "this is a folder; --recursive captions the pictures in it"
    return None if stat.S_ISREG(mode) else "this is not a regular file"


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
