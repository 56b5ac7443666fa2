"""A captioner that sleeps instead of thinking, and the worker processes that have it: what is left is everything else.

In: how long to sleep a batch; out: worker processes. They are forked from one that has PyTorch in memory already, so
that there is room for many, and run what `wordlight worker` runs, but for the captioner: its batches take a fixed time
whatever is in them, and its answers are as long as real ones.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image

from model.caption import Attention, Caption, Word
from model.options import DecodingOptions
from model.watch import Watch

_SIDE = 17  # of the attention grid, as the shipped captioner has it
_WORDS = 10
_WEIGHTS = [0.0035] * (_SIDE * _SIDE)


class SleepingCaptioner:
    """What the worker asks of a captioner."""

    device = torch.device("cpu")
    config = SimpleNamespace(name="sleeping")
    engine = SimpleNamespace(name="sleeping")
    version = "0"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._asleep_until = 0.0

    def prepare(self, _image: Image.Image) -> torch.Tensor:
        """Not even decoded."""
        return torch.zeros(3, 1, 1, dtype=torch.uint8)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """The batch begins here."""
        self._asleep_until = time.monotonic() + self._seconds
        return pixels

    def write(
        self, memory: torch.Tensor, options: DecodingOptions, *, seeds: Sequence[int | None], watch: Watch
    ) -> list[list[Caption]]:
        """As beam search does for a job that nobody follows, it tells no word before the last."""
        assert len(seeds) == len(memory)
        for step in range(_WORDS):
            until_the_next = (self._asleep_until - time.monotonic()) / (_WORDS - step)
            time.sleep(max(0.0, until_the_next))
            watch.step([])
        words = [Word("dog", -1.0, Attention(_SIDE, _SIDE, _WEIGHTS)) for _ in range(_WORDS)]
        captions = [Caption("dog " * _WORDS, -float(_WORDS), words) for _ in range(options.num_captions)]
        return [captions for _ in range(len(memory))]


class SleepingWorkers:
    """Some worker processes."""

    def __init__(self, count: int, seconds: float, environment: dict[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["worker.main", "sleeping_captioner"])
        self._all: list[ForkServerProcess] = []
        for _ in range(count):
            process = context.Process(target=_work, args=(seconds, environment))
            process.start()
            self._all.append(process)

    def cpu_seconds(self) -> float:
        """How long all of them together have used a processor."""
        ticks = 0
        for process in self._all:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # in its own code, and in the kernel's
        return ticks / os.sysconf("SC_CLK_TCK")

    def must_live(self) -> None:
        """Raises RuntimeError when one of them has ended."""
        ended = [process.exitcode for process in self._all if not process.is_alive()]
        if ended:
            raise RuntimeError(f"a worker does not start: exit status {ended[0]}")

    def end(self) -> None:
        """Let all of them finish."""
        for process in self._all:
            process.terminate()
        for process in self._all:
            process.join()


def _work(seconds: float, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    import worker.main
    from worker.settings import WorkerSettings

    worker.main.load_ready = lambda *_: SleepingCaptioner(seconds)  # type: ignore
    sys.exit(worker.main.run(WorkerSettings()))
