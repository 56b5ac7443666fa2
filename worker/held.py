"""Which entries of the stream this worker holds, and since when it has been busy. Shared by the worker's threads.

It must not know of Redis: who keeps the entries alive is worker/heartbeat.py.
"""

import threading
import time


class Held:
    """A set of entries behind a lock, and a stopwatch of the batch at hand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: set[str] = set()
        self._busy_since: float | None = None

    def add(self, entries: list[str]) -> set[str]:
        """These are ours now; returns those that were not ours already."""
        with self._lock:
            new = set(entries) - self._entries
            self._entries |= new
            return new

    def discard(self, entries: list[str]) -> None:
        """These are over, or somebody else's."""
        with self._lock:
            self._entries.difference_update(entries)

    def entries(self) -> list[str]:
        """What we hold."""
        with self._lock:
            return sorted(self._entries)

    def busy(self) -> None:
        """A batch begins."""
        self._busy_since = time.monotonic()

    def idle(self) -> None:
        """The batch is over."""
        self._busy_since = None

    def busy_seconds(self) -> float:
        """How long the batch at hand has taken; 0 when there is none."""
        since = self._busy_since
        return time.monotonic() - since if since is not None else 0.0
