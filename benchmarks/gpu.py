"""Captions a second on a GPU, from prepared pixels that are already there: by batch size, strategy and precision.

    python benchmarks/gpu.py                         # exit status 2 where there is no GPU
    python benchmarks/gpu.py --device cpu            # small sizes, to try the program

For every precision the share of time that encoding takes, and writing; how many captions are those of fp32; and the
kernels launched for each word: of a call that writes some words more than another, the
difference. On a CPU, which launches none, operators are counted in their place. A CUDA graph is one launch, whatever
is in it. In bf16 the captioner's own engine computes; fp16, which it does not offer, is PyTorch's autocast of fp32. The
last line is JSON.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from engines import load
from photographs import photographs
from timing import side_by_side, verdict
from torch.profiler import ProfilerActivity, profile

from model.caption import Caption
from model.captioner import SHIPPED, Captioner
from model.memory import Memory
from model.options import DecodingOptions, Strategy

_PRECISIONS = ("fp32", "bf16", "fp16")
_STRATEGIES = {"greedy": DecodingOptions(strategy=Strategy.GREEDY), "beam 3": DecodingOptions()}
_SIZES = {"cuda": [2**n for n in range(10)], "cpu": [1, 4]}
_CAPTIONS_A_SECOND = 8000.0
_ACTIVITIES = {"cuda": [ProfilerActivity.CPU, ProfilerActivity.CUDA], "cpu": [ProfilerActivity.CPU]}
# No caption ends before its second word, and hardly any before its fifth: all steps up to there are really done.
_FEW, _MORE = 2, 4


def main() -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args()
    kind = torch.device(arguments.device).type
    if kind == "cuda" and not torch.cuda.is_available():
        print(
            "there is no GPU here that PyTorch can use; --device cpu tries the program in small sizes", file=sys.stderr
        )
        return 2
    captioners = {
        precision: load("auto-bf16" if precision == "bf16" else "auto", arguments.model, arguments.device)
        for precision in dict.fromkeys(("fp32", *arguments.precision))
    }
    captioner = captioners["fp32"]
    sizes = arguments.batch or _SIZES[kind]
    # A small sample, again and again: a GPU does not care what is in a picture.
    sample = photographs(arguments.data, min(max(sizes), 64))
    prepared = torch.stack([captioner.prepare(picture.image()) for picture in sample])
    pixels = prepared[torch.arange(max(sizes)) % len(sample)].to(captioner.device)
    device = torch.cuda.get_device_name() if kind == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"{device}; medians of {arguments.rounds} rounds\n")
    counted = "launches a word" if kind == "cuda" else "operators a word"
    columns = ("captions a second", "ms a batch", "encoding", "writing", counted, "same as fp32")
    print(f"{'':<24}" + "".join(f"{column:>26}" for column in columns))
    rows: list[dict[str, Any]] = []
    for size in sizes:
        rows += measure(captioners, pixels[:size], arguments.precision, arguments.rounds)
    print()
    for precision in arguments.precision if kind == "cuda" else ():
        ours = [row for row in rows if row["strategy"] == "beam 3" and row["precision"] == precision]
        best = max(row["captions_a_second"]["median"] for row in ours)
        print(verdict(f"captions a second, beam 3, {precision}, at the best size", best, _CAPTIONS_A_SECOND))
    print(json.dumps({"benchmark": "gpu", "device": device, "rows": rows}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", metavar="NAME", help="default: cuda")
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a data set, or a folder of JPEG files")
    parser.add_argument("--batch", type=int, nargs="+", metavar="N", help="default: 1 2 4 … 512; on a CPU 1 4")
    parser.add_argument("--precision", nargs="+", default=[*_PRECISIONS], choices=_PRECISIONS, help="default: all")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="default: 9")
    return parser


@dataclass(frozen=True, slots=True)
class Run:
    """One way to caption a batch."""

    captioner: Captioner
    pixels: torch.Tensor
    options: DecodingOptions
    precision: str

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.pixels.device.type, torch.float16, enabled=self.precision == "fp16")

    def encode(self) -> Memory:
        """Pixels to what there is to write of; done when this returns."""
        with self._autocast():
            memory = self.captioner.encode(self.pixels)
        if self.pixels.is_cuda:
            torch.cuda.synchronize()
        return memory

    def write(self, memory: Memory, options: DecodingOptions | None = None) -> list[Caption]:
        """The best caption of each."""
        with self._autocast():
            return [best for best, *_ in self.captioner.write(memory, options or self.options)]

    def all(self) -> list[Caption]:
        """Both, without a pause between them."""
        with self._autocast():
            return [best for best, *_ in self.captioner.caption_pixels(self.pixels, self.options)]

    def launches_a_word(self) -> float:
        """How often the device is told to do something, for one word more of the whole batch."""
        memory = self.encode()
        counts = []
        for words in (_FEW, _MORE):
            options = replace(self.options, max_words=words)
            self.write(memory, options)  # whatever is made once is made now
            with profile(activities=_ACTIVITIES[self.pixels.device.type]) as profiler:
                self.write(memory, options)
            events = profiler.key_averages()
            counts.append(sum(int(event.count) for event in events if _is_launch(event.key, self.pixels.is_cuda)))
        return (counts[1] - counts[0]) / (_MORE - _FEW)


def _is_launch(event: str, on_gpu: bool) -> bool:
    """Whether what the profiler has seen is a launch of CUDA's or, on a CPU, an operator of PyTorch's."""
    if on_gpu:
        return "LaunchKernel" in event or event == "cudaGraphLaunch"
    return event.startswith("aten::")


def measure(
    captioners: dict[str, Captioner], pixels: torch.Tensor, precisions: Sequence[str], rounds: int
) -> list[dict[str, Any]]:
    """Print and return a row for each strategy and precision, all of which take turns."""
    tasks: dict[tuple[str, str, str], Callable[[], object]] = {}
    runs = {
        (strategy, precision): Run(captioners[precision], pixels, options, precision)
        for strategy, options in _STRATEGIES.items()
        for precision in precisions
    }
    for key, run in runs.items():
        stages: dict[str, Callable[[], object]] = {
            "all": run.all,
            "encode": run.encode,
            "write": partial(run.write, run.encode()),
        }
        tasks |= {(*key, stage): task for stage, task in stages.items()}
    seconds = side_by_side(tasks, rounds)
    rows: list[dict[str, Any]] = []
    for (strategy, precision), run in runs.items():
        whole, encode, write = (seconds[strategy, precision, stage] for stage in ("all", "encode", "write"))
        rate, encoding, writing = whole.rate(len(pixels)), encode.over(whole), write.over(whole)
        reference = Run(captioners["fp32"], pixels, run.options, "fp32").all()
        same = sum(a.text == b.text for a, b in zip(run.all(), reference, strict=True)) / len(reference)
        launches = run.launches_a_word()
        milliseconds = whole.scaled(1000)
        cells = (rate, milliseconds, f"{encoding.median:.0%}", f"{writing.median:.0%}", f"{launches:g}", f"{same:.1%}")
        print(
            f"{len(pixels):>4} {strategy:<8} {precision:<10}" + "".join(f"{cell!s:>26}" for cell in cells), flush=True
        )
        rows.append(
            {
                "batch": len(pixels),
                "strategy": strategy,
                "precision": precision,
                "captions_a_second": rate.figures(),
                "ms_a_batch": milliseconds.figures(),
                "encoding": encoding.figures(),
                "writing": writing.figures(),
                "launches_a_word": launches,
                "same_as_fp32": round(same, 4),
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
