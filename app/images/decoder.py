"""The decoder: a few confined child processes that turn uploads into working images.

In: the bytes of an upload. Out: a WorkingImage, PictureRefused, or DecoderBusy. A picture that crashes its
child, outgrows its memory or outlasts its time is refused alone; the others only wait a little. Knows
processes and asyncio; must not know HTTP, Redis or what is in a picture (picture.py does, in the children).
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
from app.images.picture import PictureLimits, PictureRefused, Refusal, WorkingImage

_T = TypeVar("_T")
_START_SECONDS: Final = 20.0  # a child starts in a quarter of a second; this is for a machine on its knees
_PR_SET_PDEATHSIG: Final = 1  # from <linux/prctl.h>
_TINY_GIF: Final = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def _confine(memory_bytes: int, parent: int) -> None:
    """Runs first in every child: gives up what decoding does not need, and warms up."""
    if sys.platform == "linux":  # elsewhere only the end of a closed pipe tells an idle child that it is alone
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we could ask
            os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a handler in Python would wait until a codec returns
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would leave the upload on the disk
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    picture.prepare(_TINY_GIF, PictureLimits())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff prints complaints; strangers do not write our log


class DecoderBusy(Exception):
    """No child is free soon: enough uploads wait already, or no child starts, or the decoder is closed."""


class PictureDecoder:
    """A bounded pool of decoding processes, for one event loop: enter it there, or start() and close() it."""

    def __init__(
        self,
        processes: int,
        timeout_seconds: float,
        memory_bytes: int,
        limits: PictureLimits,
        max_waiting: int,
    ) -> None:
        """Starts nothing yet.

        `timeout_seconds` is for decoding one picture, not for waiting; `memory_bytes` is the address space of
        one child; `max_waiting` is how many uploads may wait while every child is at work.
        """
        self._processes = processes
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._limits = limits
        self._max_waiting = max_waiting
        self._waiting = 0
        self._free_children = asyncio.Semaphore(processes)  # what waits, waits here and not in pebble's queue
        self._running: set[asyncio.Task[Any]] = set()
        self._pool: ProcessPool | None = None
        self._retired: set[asyncio.Future[None]] = set()  # broken pools on their way out

    @property
    def busy(self) -> int:
        """How many children are at work."""
        return len(self._running)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Starts the children and waits until the first is warm. Raises DecoderBusy if none comes up."""
        self._pool = self._new_pool()
        try:
            await self._run(os.getpid)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Lets the pictures at work finish (they have their time limit), then ends every child."""
        pool, self._pool = self._pool, None
        if self._running:
            await asyncio.wait(self._running)
        if pool is not None:
            self._retire(pool)
        await asyncio.gather(*self._retired)

    async def prepare(self, upload: BinaryIO) -> WorkingImage:
        """Runs picture.prepare in a child, on what `upload` holds; reads it only when a child is free.

        Raises PictureRefused or DecoderBusy; ValueError for more bytes than a child can take in. Those must
        be stopped earlier: a child that runs out of memory while it receives would break the pool.
        """

        def arguments() -> tuple[bytes, PictureLimits]:
            data = upload.read()
            if len(data) > self._memory_bytes // 8:
                raise ValueError(f"{len(data)} bytes are too many for children of {self._memory_bytes} bytes")
            return data, self._limits

        return await self._when_free(picture.prepare, arguments)

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await self._when_free(function, lambda: arguments)

    async def _when_free(self, function: Callable[..., _T], arguments: Callable[[], tuple[object, ...]]) -> _T:
        """Waits for a free child and runs a function in it; uploads that wait do not wait in memory."""
        if self._free_children.locked() and self._waiting >= self._max_waiting:
            raise DecoderBusy(f"{self._waiting} uploads wait for a decoder")
        self._waiting += 1
        try:
            await self._free_children.acquire()
        finally:
            self._waiting -= 1
        # A task of its own: when the request is cancelled, its child works on and is taken until it is done.
        # Killing it instead would cost a new child, which takes longer than most pictures.
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
            task.exception()  # seen, even if nobody waits for it any more

    async def _run_in_child(self, function: Callable[..., _T], arguments: tuple[object, ...]) -> _T:
        """Runs a function in a child; a second time if the pool breaks down, which need not be its fault."""
        for _ in range(2):
            pool = self._healthy_pool()
            try:
                future = asyncio.wrap_future(pool.schedule(function, args=arguments, timeout=self._timeout_seconds))
                # pebble's time limit counts from the moment that a child takes the task, so it needs another.
                await asyncio.wait([future], timeout=self._timeout_seconds + _START_SECONDS)
                if future.done():
                    return future.result()
                future.cancel()
            except TimeoutError as error:
                detail = f"Decoding the picture took longer than {self._timeout_seconds:g} seconds."
                raise PictureRefused(Refusal.UNDECODABLE_IMAGE, detail) from error
            except ProcessExpired as error:
                detail = "Decoding the picture needed too much memory, or it is damaged in a dangerous way."
                raise PictureRefused(Refusal.UNDECODABLE_IMAGE, detail) from error
            except RuntimeError:  # from pebble: a child ended that had no task, killed from outside perhaps
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
        """Makes a pool and starts its children.

        Spawned, because a fork would copy the locks of the server's threads. To be called in the event loop's
        thread, which lives as long as the pool: Linux kills a child when the *thread* that started it ends.
        """
        pool = ProcessPool(
            self._processes,
            initializer=_confine,
            initargs=(self._memory_bytes, os.getpid()),
            context=multiprocessing.get_context("spawn"),
        )
        _ = pool.active  # asking starts it
        return pool

    def _replace(self, pool: ProcessPool) -> None:
        """Puts a new pool in the place of a broken one, unless another picture has done so already."""
        if self._pool is pool:
            self._pool = self._new_pool()
            self._retire(pool)

    def _retire(self, pool: ProcessPool) -> None:
        """Ends a pool and its children, in the background."""
        pool.stop()  # type: ignore[no-untyped-call]
        ending = asyncio.get_running_loop().run_in_executor(None, pool.join)
        self._retired.add(ending)
        ending.add_done_callback(self._retired.discard)
