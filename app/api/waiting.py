"""Waiting for the end of jobs within one request, as long as the client wants and the service allows.

In: jobs' ids; out: whatever a look at them gives, as soon as it is final. It must not know what is looked at.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from app.notifications import look_again
from app.services import Services

_WAIT = re.compile(r"wait *= *\"?(\d{1,9})\"?", re.IGNORECASE)

Found = TypeVar("Found")


def preferred_wait(prefer: Sequence[str]) -> int | None:
    """The seconds of `wait` in the values of Prefer (RFC 7240); 0 for `respond-async` alone; None for neither."""
    names = [preference.partition(";")[0].strip() for preference in ",".join(prefer).split(",")]
    for name in names:
        if wait := _WAIT.fullmatch(name):
            return int(wait[1])
    return 0 if "respond-async" in map(str.lower, names) else None


async def wait_until(
    services: Services,
    job_ids: Sequence[str],
    seconds: float,
    look: Callable[[], Awaitable[Found]],
    final: Callable[[Found], bool],
) -> Found:
    """What `look` finds when that is `final`, or after `seconds` (capped), whichever is first.

    Looks again whenever one of the jobs ends.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(seconds, services.settings.max_wait_seconds)
    with services.notices.watch(*job_ids, end_only=True) as something_ended:
        while True:
            found = await look()
            remaining = deadline - loop.time()
            if final(found) or remaining <= 0 or services.notices.closed:
                return found
            await look_again(something_ended, remaining)
