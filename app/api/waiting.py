"""Waits within a request for the end of jobs, as long as the client asks and the settings allow."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from app.notifications import wait_for_change
from app.services import Services

_WAIT: Final = re.compile(r"wait *= *\"?(\d{1,9})\"?", re.IGNORECASE)

State = TypeVar("State")


def preferred_wait(prefer: Sequence[str]) -> int | None:
    """The seconds of `wait` in Prefer headers (RFC 7240); 0 for `respond-async` alone; None for neither."""
    names = [preference.partition(";")[0].strip() for preference in ",".join(prefer).split(",")]
    for name in names:
        if wait := _WAIT.fullmatch(name):
            return int(wait[1])
    return 0 if "respond-async" in map(str.lower, names) else None


async def wait_until(
    services: Services,
    job_ids: Sequence[str],
    seconds: float,
    fetch: Callable[[], Awaitable[State]],
    is_final: Callable[[State], bool],
) -> State:
    """Fetch a state again whenever one of the jobs ends; return it when it is final or the time is over.

    The time is at most `max_wait_seconds`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(seconds, services.settings.max_wait_seconds)
    with services.notifications.watch(*job_ids, end_only=True) as job_ended:
        while True:
            state = await fetch()
            remaining = deadline - loop.time()
            if is_final(state) or remaining <= 0 or services.notifications.closed:
                return state
            await wait_for_change(job_ended, remaining)
