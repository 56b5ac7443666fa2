"""A cache on disk for files that take an engine seconds to make. If it is lost, they are made again."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_MOST = 8  # entries that are kept, the latest ones
_MODEL = Path(__file__).parents[2]
_SOURCES = sorted(path for package in ("network", "runtime") for path in (_MODEL / package).rglob("*.py"))


class Store:
    """A folder of files that belong to one version of a captioner, of an engine, and of this code."""

    def __init__(self, *made_from: str, folder: Path | None = None) -> None:
        """`folder` contains all stores (default: wordlight/engines in the user's cache)."""
        self._all = folder or _cache() / "wordlight" / "engines"
        digest = hashlib.sha256("\n".join((*made_from, torch.__version__)).encode())
        for source in _SOURCES:
            digest.update(source.read_bytes())
        self._ours = self._all / digest.hexdigest()[:16]

    def find(self, name: str) -> Path | None:
        """Return the path of the file `name`, or None if it is not kept."""
        path = self._ours / name
        return path if path.exists() else None

    def keep(self, write: Callable[[Path], None]) -> None:
        """Keep the files that `write` writes into a folder. If the disk refuses, log it and keep nothing."""
        try:
            self._all.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._all, prefix="new-") as new:
                folder = Path(new) / self._ours.name
                folder.mkdir()
                write(folder)
                shutil.rmtree(self._ours, ignore_errors=True)
                folder.rename(self._ours)  # atomic
            kept = sorted(self._all.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in kept[_MOST:]:
                shutil.rmtree(old, ignore_errors=True)
        except (OSError, RuntimeError) as error:  # OpenVINO raises RuntimeError if it cannot write
            log.info("nothing is kept for the next start: %s", error)


def _cache() -> Path:
    """Return the user's cache or, for a user without a home, as in a container, the temporary folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return Path(tempfile.gettempdir())
