"""Jobs that are ready for the device: between the thread that prepares pictures and the one that captions them.

In: prepared jobs, one by one; out: batches. It never holds more than the next batch, so that a slow worker does not
hoard what another could do, and it never waits for a batch to fill: what is there goes. It must not know of Redis or
of the model.
"""

import threading
from collections import deque
from dataclasses import dataclass

import torch

from jobs.consumer import Claim


@dataclass(frozen=True, slots=True)
class Prepared:
    """A claimed job and its picture, as the captioner takes it."""

    claim: Claim
    pixels: torch.Tensor  # (3, S, S) uint8


class ReadyJobs:
    """A bounded buffer with one rule of its own: suspects travel alone.

    A job is a suspect once `solo_attempts` attempts at it have begun and none ended: one that kills its worker must
    not take others down with it for ever.
    """

    def __init__(self, batch_size: int, solo_attempts: int) -> None:
        self._batch_size = batch_size
        self._solo_attempts = solo_attempts
        self._jobs: deque[Prepared] = deque()
        self._changed = threading.Condition()

    def limit(self, batch_size: int) -> None:
        """From now on, no batch is larger."""
        with self._changed:
            self._batch_size = max(1, min(self._batch_size, batch_size))

    def put(self, job: Prepared) -> None:
        """Add a job. It is for the caller to ask for `room` first."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def room(self, timeout: float) -> int:
        """How many more jobs fit, waiting up to `timeout` seconds until at least one does."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._jobs) < self._batch_size, timeout)
            return max(0, self._batch_size - len(self._jobs))

    def take(self, timeout: float) -> list[Prepared]:
        """The next batch: at most a batch of unsuspected jobs, or one suspect. Empty after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._jobs), timeout)
            batch: list[Prepared] = []
            while self._jobs and len(batch) < self._batch_size:
                if self._suspect(self._jobs[0]):
                    if not batch:
                        batch.append(self._jobs.popleft())
                    break
                batch.append(self._jobs.popleft())
            self._changed.notify_all()
            return batch

    def _suspect(self, job: Prepared) -> bool:
        return job.claim.attempt >= self._solo_attempts
