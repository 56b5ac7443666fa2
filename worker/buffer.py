"""What the worker's threads share: jobs that are ready for the device, and the claims that the worker holds."""

import threading
import time
from collections import deque
from dataclasses import dataclass

import torch

from jobs.consumer import Claim


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A claimed job and its picture as the captioner takes it."""

    claim: Claim
    pixels: torch.Tensor  # (3, S, S) uint8


class Buffer:
    """A bounded buffer of prepared jobs between the thread that prepares them and the thread that captions them.

    It holds at most one batch, so that a slow worker does not keep jobs from other workers. It does not wait for a
    batch to fill. A job is suspect after `solo_attempts` attempts that have not ended: it may have killed its workers.
    It runs alone, so that it cannot harm other jobs.
    """

    def __init__(self, batch_size: int, solo_attempts: int) -> None:
        self._batch_size = batch_size
        self._solo_attempts = solo_attempts
        self._jobs: deque[PreparedJob] = deque()
        self._changed = threading.Condition()

    def limit(self, batch_size: int) -> None:
        """Lower the largest size of a batch from now on."""
        with self._changed:
            self._batch_size = max(1, min(self._batch_size, batch_size))

    def put(self, job: PreparedJob) -> None:
        """Add a job. The caller asks for `room` first."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def room(self, timeout: float) -> int:
        """Wait up to `timeout` seconds for a free place; return the number of free places."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._jobs) < self._batch_size, timeout)
            return max(0, self._batch_size - len(self._jobs))

    def take(self, timeout: float) -> list[PreparedJob]:
        """Take the next batch: several jobs, or a single suspect. Return an empty list after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._jobs), timeout)
            batch: list[PreparedJob] = []
            while self._jobs and len(batch) < self._batch_size:
                if self._suspect(self._jobs[0]):
                    if not batch:
                        batch.append(self._jobs.popleft())
                    break
                batch.append(self._jobs.popleft())
            self._changed.notify_all()
            return batch

    def _suspect(self, job: PreparedJob) -> bool:
        return job.claim.attempt >= self._solo_attempts


class WorkerState:
    """The stream entries that this worker holds, and how long its current batch has been running.

    Safe to use from every thread. The heartbeat keeps the entries from being taken over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: set[str] = set()
        self._batch_started: float | None = None

    def hold(self, entries: list[str]) -> set[str]:
        """Add entries; return those that the worker did not hold before."""
        with self._lock:
            new = set(entries) - self._entries
            self._entries |= new
            return new

    def release(self, entries: list[str]) -> None:
        """Remove entries: their jobs are over, or another worker has them."""
        with self._lock:
            self._entries.difference_update(entries)

    def entries(self) -> list[str]:
        """Return the entries that the worker holds."""
        with self._lock:
            return sorted(self._entries)

    def begin_batch(self) -> None:
        """Start the clock: the model begins a batch."""
        self._batch_started = time.monotonic()

    def end_batch(self) -> None:
        """Stop the clock."""
        self._batch_started = None

    def batch_seconds(self) -> float:
        """Return how long the current batch has been running; 0 between batches."""
        started = self._batch_started
        return time.monotonic() - started if started is not None else 0.0
