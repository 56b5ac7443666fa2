"""The thread that keeps this worker's jobs its own while the model computes.

In: what is held; out: a heartbeat in Redis, several times in the takeover time. It runs beside the model, which frees
the interpreter while it computes, so a long batch does not look like a dead worker. A batch that takes absurdly long
does: then this thread ends the process, and another worker takes over.
"""

import logging
import os
import threading

from redis.exceptions import RedisError

from jobs.consumer import Consumer
from worker.held import Held

log = logging.getLogger(__name__)

_BEATS_A_TAKEOVER = 5
_BEATS_A_SWEEP = 30
_EXIT_STUCK = 70


class Heartbeat(threading.Thread):
    """Beats until `stop` is set. Dies of what it does not expect; the worker dies with it."""

    def __init__(
        self,
        consumer: Consumer,
        held: Held,
        stop: threading.Event,
        *,
        takeover_seconds: float,
        stuck_seconds: float,
        version: str,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._consumer, self._held, self._stop_event = consumer, held, stop
        self._interval = takeover_seconds / _BEATS_A_TAKEOVER
        self._stuck_seconds = stuck_seconds
        self._version = version

    def run(self) -> None:
        """See the class."""
        beats = 0
        while not self._stop_event.wait(self._interval if beats else 0):
            beats += 1
            if self._held.busy_seconds() > self._stuck_seconds:
                log.critical("a batch has taken more than %.0f s: leaving it to another worker", self._stuck_seconds)
                os._exit(_EXIT_STUCK)
            try:
                entries = self._held.entries()
                kept = self._consumer.heartbeat(entries, self._version)
                if lost := [entry for entry in entries if entry not in kept]:
                    # Taken over while we were stopped or cut off. Whatever we still compute for them is refused.
                    self._held.discard(lost)
                if beats % _BEATS_A_SWEEP == 0:
                    self._consumer.sweep()
            except RedisError as error:
                log.warning("heartbeat failed: %s", error)
