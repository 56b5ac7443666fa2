"""One ear on Redis for the whole process: wakes whoever waits for a job when something happens to it.

In: the queue's notices; out: asyncio events. A notice only says "look again"; if notices are lost, waiting gets a
little slower and never wrong.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from jobs.producer import Notice, Producer

log = logging.getLogger(__name__)

# How long to sleep at most before looking again without a notice.
LOOK_AGAIN_SECONDS = 5.0
_RECONNECT_SECONDS = 0.5


class Notices:
    """Dispatches notices to the requests that watch jobs."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        # By job, and whether it is its end alone that matters.
        self._watchers: defaultdict[tuple[str, bool], set[asyncio.Event]] = defaultdict(set)
        self._loop = asyncio.get_running_loop()
        self.closed = False

    async def listen(self) -> None:
        """Listen until cancelled, through any failure of Redis."""
        deaf = False
        while True:
            try:
                async for notice in self._producer.notices():
                    deaf = False
                    if notice is not None:
                        self._wake(notice)
            except RedisError as error:
                if not deaf:  # once an outage is enough
                    log.warning("notices are not heard: %s", error)
                deaf = True
            except Exception:
                log.exception("notices are not heard")  # waiting gets slower; this task must not end
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _wake(self, notice: Notice) -> None:
        for end_only in (False, True) if notice.over else (False,):
            for event in self._watchers.get((notice.job_id, end_only), ()):
                event.set()

    def close_soon(self) -> None:
        """Send everybody home: the process is about to end. May be called by a signal handler."""
        self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        self.closed = True
        for events in self._watchers.values():
            for event in events:
                event.set()

    @contextmanager
    def watch(self, *job_ids: str, end_only: bool = False) -> Iterator[asyncio.Event]:
        """An event that is set whenever something happens to one of the jobs or, with `end_only`, when one ends."""
        event = asyncio.Event()
        watched = [(job_id, end_only) for job_id in job_ids]
        for one in watched:
            self._watchers[one].add(event)
        try:
            yield event
        finally:
            for one in watched:
                self._watchers[one].discard(event)
                if not self._watchers[one]:
                    del self._watchers[one]


async def look_again(event: asyncio.Event, seconds: float) -> None:
    """Sleep until `event` is set, but no longer than `seconds`, nor than is wise to trust notices."""
    try:
        async with asyncio.timeout(min(seconds, LOOK_AGAIN_SECONDS)):
            await event.wait()
    except TimeoutError:
        pass
    event.clear()
