"""What engines keep on disk between two starts, because it takes seconds to make. Losing it costs only those.

In: what it was made from; out: files. It must not know what they are.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_MOST = 8  # of what was made from different things, the latest
_SOURCES = sorted(path for folder in Path(__file__).parents[:2] for path in folder.glob("*.py"))


class Store:
    """A folder for what was made from a captioner of some version, by some version of an engine, with this code."""

    def __init__(self, *made_from: str, folder: Path | None = None) -> None:
        """`folder` is of all stores (default: wordlight/engines in the user's cache)."""
        self._all = folder or _cache() / "wordlight" / "engines"
        digest = hashlib.sha256("\n".join((*made_from, torch.__version__)).encode())
        for source in _SOURCES:
            digest.update(source.read_bytes())
        self._ours = self._all / digest.hexdigest()[:16]

    def find(self, name: str) -> Path | None:
        """The file `name`, if it was kept."""
        path = self._ours / name
        return path if path.exists() else None

    def keep(self, write: Callable[[Path], None]) -> None:
        """Keep what `write` writes into the folder that it is given; where nothing can be kept, nothing is."""
        try:
            self._all.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._all, prefix="new-") as new:
                folder = Path(new) / self._ours.name
                folder.mkdir()
                write(folder)
                shutil.rmtree(self._ours, ignore_errors=True)
                folder.rename(self._ours)  # whole or not at all
            kept = sorted(self._all.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in kept[_MOST:]:
                shutil.rmtree(old, ignore_errors=True)
        except (OSError, RuntimeError) as error:  # OpenVINO raises the latter when it cannot write
            log.info("nothing is kept for the next start: %s", error)


def _cache() -> Path:
    """The user's, or, for a user without a home, as in a container, the machine's."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return Path(tempfile.gettempdir())
