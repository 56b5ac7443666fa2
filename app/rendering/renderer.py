"""The renderer: a few threads that draw, so that drawing never holds up the event loop.

In: a function that draws. Out: what it returns, or RendererBusy. It must not know what is drawn, nor HTTP.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class RendererBusy(Exception):
    """Enough drawings wait already."""


class Renderer:
    """Draws at most so many pictures at once; for one event loop."""

    def __init__(self, threads: int, max_waiting: int) -> None:
        """Starts nothing yet. `max_waiting` is how many may wait while every thread is at work."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="renderer")
        self._capacity = threads + max_waiting
        self._taken = 0

    async def render(self, draw: Callable[[], bytes]) -> bytes:
        """Draws when a thread is free. Raises RendererBusy, and what `draw` raises."""
        if self._taken >= self._capacity:
            raise RendererBusy
        self._taken += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, draw)
        finally:
            self._taken -= 1
