"""An on-disk cache for files that take an engine seconds to create. Lost entries are created again."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_MAX_ENTRIES = 8  # older entries are removed
_MODEL = Path(__file__).parents[2]
_SOURCES = sorted(path for package in ("network", "runtime") for path in (_MODEL / package).rglob("*.py"))


class TranslationCache:
    """A folder of files for one version of a captioner, of an engine, and of this code."""

    def __init__(self, *key: str, folder: Path | None = None) -> None:
        """`key` names the versions of the captioner and the engine.

        `folder` contains all entries (default: wordlight/engines in the user's cache).
        """
        self._root = folder or _cache() / "wordlight" / "engines"
        digest = hashlib.sha256("\n".join((*key, torch.__version__)).encode())
        for source in _SOURCES:
            digest.update(source.read_bytes())
        self._entry = self._root / digest.hexdigest()[:16]

    def get(self, name: str) -> Path | None:
        """Return the path of the file `name`, or None if it is not cached."""
        path = self._entry / name
        return path if path.exists() else None

    def put(self, write: Callable[[Path], None]) -> None:
        """Cache the files that `write` writes into a folder. If writing fails, log it and cache nothing."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._root, prefix="new-") as new:
                folder = Path(new) / self._entry.name
                folder.mkdir()
                write(folder)
                shutil.rmtree(self._entry, ignore_errors=True)
                folder.rename(self._entry)  # atomic
            entries = sorted(self._root.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in entries[_MAX_ENTRIES:]:
                shutil.rmtree(old, ignore_errors=True)
        except (OSError, RuntimeError) as error:  # OpenVINO raises RuntimeError if it cannot write
            log.info("the translation is not cached: %s", error)


def _cache() -> Path:
    """Return the user's cache folder or, for a user without a home, as in a container, the temporary folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return Path(tempfile.gettempdir())
