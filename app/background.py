"""Tasks beside the requests, which run for as long as something else does.

In: coroutines that never end by themselves; out: a block within which they run.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

_CANCEL_AGAIN_SECONDS: Final = 0.5


@asynccontextmanager
async def in_background(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the coroutines while the block does; they have ended when this has. What one of them raises, this raises."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            await _end(task)


async def _end(task: asyncio.Task[None]) -> None:
    # Once is not always enough: in Python 3.11, `asyncio.wait_for`, by which redis-py sends, loses a cancellation that
    # comes just as it ends.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_SECONDS)
    if not task.cancelled():
        task.result()
