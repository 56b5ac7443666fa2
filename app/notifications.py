"""A single Redis pub/sub listener per process; wakes requests that wait for a job.

A notification only tells a request to read the job again. If notifications get lost, requests still read it every few
seconds: waiting becomes slower, never wrong.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from jobs.producer import Notification, Producer

log = logging.getLogger(__name__)

# A waiting request reads its job at least this often, even without a notification.
POLL_SECONDS = 5.0
_RECONNECT_SECONDS = 0.5


class Notifications:
    """Dispatches notifications to the requests that watch jobs."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        # The key is a job id and whether only the job's end matters.
        self._watchers: defaultdict[tuple[str, bool], set[asyncio.Event]] = defaultdict(set)
        self._loop = asyncio.get_running_loop()
        self.closed = False

    async def listen(self) -> None:
        """Listen until cancelled; survives failures of Redis."""
        failing = False
        while True:
            try:
                async for notification in self._producer.notifications():
                    failing = False
                    if notification is not None:
                        self._wake(notification)
            except RedisError as error:
                if not failing:  # log an outage once
                    log.warning("Cannot receive notifications: %s", error)
                failing = True
            except Exception:
                log.exception("Cannot receive notifications")  # keep this task alive
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _wake(self, notification: Notification) -> None:
        for end_only in (False, True) if notification.over else (False,):
            for event in self._watchers.get((notification.job_id, end_only), ()):
                event.set()

    def close_threadsafe(self) -> None:
        """Wake every waiting request because the process is about to stop. A signal handler may call this."""
        self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        self.closed = True
        for events in self._watchers.values():
            for event in events:
                event.set()

    @contextmanager
    def watch(self, *job_ids: str, end_only: bool = False) -> Iterator[asyncio.Event]:
        """Yield an event that is set when one of the jobs changes or, with `end_only`, when one ends."""
        event = asyncio.Event()
        watched = [(job_id, end_only) for job_id in job_ids]
        for key in watched:
            self._watchers[key].add(event)
        try:
            yield event
        finally:
            for key in watched:
                self._watchers[key].discard(event)
                if not self._watchers[key]:
                    del self._watchers[key]


async def wait_for_change(event: asyncio.Event, seconds: float) -> None:
    """Sleep until `event` is set, at most `seconds` and at most POLL_SECONDS; then clear it."""
    try:
        async with asyncio.timeout(min(seconds, POLL_SECONDS)):
            await event.wait()
    except TimeoutError:
        pass
    event.clear()
