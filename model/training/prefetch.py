"""What comes next, made ready by another thread while this one computes. In: an iterator; out: the same items.

It must not know what the items are.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Prefetch(Generic[ItemT]):
    """The items of `items`, in their order, of which `ahead` are asked for before they are wanted.

    One thread asks for one item at a time, so that `items` need not be thread-safe; what it raises is raised here.
    """

    def __init__(self, items: Iterator[ItemT], ahead: int = 2) -> None:
        self._items, self._ahead = items, ahead
        self.waited = 0.0  # seconds that whoever iterates had to wait for the next item

    def __iter__(self) -> Iterator[ItemT]:
        end = object()
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
            coming = deque(thread.submit(next, self._items, end) for _ in range(self._ahead))
            while True:
                began = time.perf_counter()
                item = coming.popleft().result()
                self.waited += time.perf_counter() - began
                if item is end:
                    return
                coming.append(thread.submit(next, self._items, end))
                yield item  # type: ignore[misc]
