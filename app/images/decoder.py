"""A pool of confined child processes that decode uploads.

If an image crashes its process or exceeds its memory or time, only this image is refused; other uploads wait a
little. The children run app/images/picture.py.
"""

import asyncio
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final, Self, TypeVar

from pebble import ProcessExpired, ProcessPool

from app.images import picture
from app.images.limits import ImageLimits
from app.images.picture import PictureRefused, Refusal, WorkingImage

_T = TypeVar("_T")
_START_SECONDS: Final = 20.0  # a child starts in 0.25 s; an overloaded machine takes longer
_PR_SET_PDEATHSIG: Final = 1  # from <linux/prctl.h>
_TINY_GIF: Final = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def _confine(memory_bytes: int, parent: int) -> None:
    """Initialise a child: limit what it may do, and decode once so that the first upload does not wait for imports."""
    if sys.platform == "linux":  # elsewhere, only the closed pipe tells an idle child that its parent has ended
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before prctl
            os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait until a codec returns
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would keep the upload on disk
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    picture.prepare(_TINY_GIF, ImageLimits())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff prints warnings, which uploads must not write into our log


class DecoderBusy(Exception):
    """No process can take the image: too many uploads wait, no process starts, or the decoder is closed."""


class PictureDecoder:
    """A bounded pool of decoding processes for one event loop. An async context manager; or use start() and close()."""

    def __init__(self, processes: int, limits: ImageLimits, max_waiting: int) -> None:
        """Create a pool; `start` starts it. `max_waiting` uploads may wait while every process is busy."""
        self._processes = processes
        self._limits = limits
        self._max_waiting = max_waiting
        self._waiting = 0
        self._free_children = asyncio.Semaphore(processes)  # uploads wait here, not in pebble's queue
        self._running: set[asyncio.Task[Any]] = set()
        self._pool: ProcessPool | None = None
        self._retired: set[asyncio.Future[None]] = set()  # broken pools that are being stopped

    @property
    def busy(self) -> int:
        """The number of busy processes."""
        return len(self._running)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the processes and wait until the first is ready. Raises DecoderBusy if none starts."""
        self._pool = self._new_pool()
        try:
            await self._run(os.getpid)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Wait for images that are being decoded (they have a time limit), then stop every process."""
        pool, self._pool = self._pool, None
        if self._running:
            await asyncio.wait(self._running)
        if pool is not None:
            self._retire(pool)
        await asyncio.gather(*self._retired)

    async def prepare(self, upload: BinaryIO) -> WorkingImage:
        """Make the working image of an upload in a child process. Reads the upload only when a process is free.

        Raises PictureRefused, DecoderBusy, or ValueError for a file above `ImageLimits.largest_file`: a child that ran
        out of memory while it receives a file would break the pool.
        """

        def arguments() -> tuple[bytes, ImageLimits]:
            data = upload.read()
            if len(data) > self._limits.largest_file:
                raise ValueError(f"The file is larger than {self._limits.largest_file:,} bytes.")
            return data, self._limits

        return await self._when_free(picture.prepare, arguments)

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await self._when_free(function, lambda: arguments)

    async def _when_free(self, function: Callable[..., _T], arguments: Callable[[], tuple[object, ...]]) -> _T:
        """Wait for a free process and run a function in it. Arguments are created only then, to save memory."""
        if self._free_children.locked() and self._waiting >= self._max_waiting:
            raise DecoderBusy(f"{self._waiting} uploads wait for a decoding process")
        self._waiting += 1
        try:
            await self._free_children.acquire()
        finally:
            self._waiting -= 1
        # A separate task: when the request is cancelled, its process finishes the image and stays occupied until then.
        # To kill and replace the process would take longer than to decode most images.
        try:
            task = asyncio.create_task(self._run_in_child(function, arguments()))
        except BaseException:
            self._free_children.release()
            raise
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._free_children.release()
        if not task.cancelled():
            task.exception()  # mark it as retrieved, even if the request was cancelled

    async def _run_in_child(self, function: Callable[..., _T], arguments: tuple[object, ...]) -> _T:
        """Run a function in a child; once more if the pool breaks, which another image may have caused."""
        seconds = self._limits.decode_seconds
        for _ in range(2):
            pool = self._healthy_pool()
            try:
                future = asyncio.wrap_future(pool.schedule(function, args=arguments, timeout=seconds))
                # pebble's time limit starts when a child takes the task, so waiting for that needs its own limit.
                await asyncio.wait([future], timeout=seconds + _START_SECONDS)
                if future.done():
                    return future.result()
                future.cancel()
            except TimeoutError as error:
                detail = f"Decoding the picture took longer than {seconds:g} seconds."
                raise PictureRefused(Refusal.UNDECODABLE_IMAGE, detail) from error
            except ProcessExpired as error:
                detail = "Decoding the picture needed too much memory or crashed the decoder."
                raise PictureRefused(Refusal.UNDECODABLE_IMAGE, detail) from error
            except RuntimeError:  # from pebble: an idle child ended, perhaps killed from outside
                pass
            self._replace(pool)
        raise DecoderBusy("the decoding processes do not start")

    def _healthy_pool(self) -> ProcessPool:
        if self._pool is not None and not self._pool.active:
            self._replace(self._pool)
        if self._pool is None:
            raise DecoderBusy("the decoder is closed")
        return self._pool

    def _new_pool(self) -> ProcessPool:
        """Create a pool and start its children.

        Children are spawned, because a fork would copy locks that the server's threads hold. Call this in the event
        loop's thread, which outlives the pool: Linux kills a child when the thread that started it ends.
        """
        pool = ProcessPool(
            self._processes,
            initializer=_confine,
            initargs=(self._limits.decode_bytes, os.getpid()),
            context=multiprocessing.get_context("spawn"),
        )
        _ = pool.active  # reading the property starts the pool
        return pool

    def _replace(self, pool: ProcessPool) -> None:
        """Replace a broken pool, unless another image has done so already."""
        if self._pool is pool:
            self._pool = self._new_pool()
            self._retire(pool)

    def _retire(self, pool: ProcessPool) -> None:
        """Stop a pool and its children in the background."""
        pool.stop()  # type: ignore[no-untyped-call]
        ending = asyncio.get_running_loop().run_in_executor(None, pool.join)
        self._retired.add(ending)
        ending.add_done_callback(self._retired.discard)
