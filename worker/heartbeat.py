"""The heartbeat thread: keeps the worker's jobs from being taken over while the model computes.

The model releases the interpreter while it computes, so a long batch does not look like a dead worker. A batch that
runs longer than `stuck_seconds` ends the process, and another worker takes its jobs over.
"""

import logging
import os
import threading

from redis.exceptions import RedisError

from jobs.consumer import Consumer
from worker.buffer import WorkerState

log = logging.getLogger(__name__)

_BEATS_A_TAKEOVER = 5
_BEATS_A_SWEEP = 30
_EXIT_STUCK = 70


class Heartbeat(threading.Thread):
    """Sends a heartbeat several times in the takeover time, until `stop` is set.

    An unexpected exception ends the thread, and the worker with it.
    """

    def __init__(
        self,
        consumer: Consumer,
        state: WorkerState,
        stop: threading.Event,
        *,
        takeover_seconds: float,
        stuck_seconds: float,
        version: str,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._consumer, self._state, self._stop_event = consumer, state, stop
        self._interval = takeover_seconds / _BEATS_A_TAKEOVER
        self._stuck_seconds = stuck_seconds
        self._version = version

    def run(self) -> None:
        """Run the thread."""
        beats = 0
        while not self._stop_event.wait(self._interval if beats else 0):
            beats += 1
            if self._state.batch_seconds() > self._stuck_seconds:
                log.critical("a batch is stuck for more than %.0f s: leaving it to another worker", self._stuck_seconds)
                os._exit(_EXIT_STUCK)
            try:
                entries = self._state.entries()
                kept = self._consumer.heartbeat(entries, self._version)
                if lost := [entry for entry in entries if entry not in kept]:
                    # Taken over while this process was stopped or cut off. Redis refuses its results for these jobs.
                    self._state.release(lost)
                if beats % _BEATS_A_SWEEP == 0:
                    self._consumer.sweep()
            except RedisError as error:
                log.warning("heartbeat failed: %s", error)
