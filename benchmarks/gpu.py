"""Captions a second on a GPU by batch size, strategy and precision, from pixels that are already on the GPU.

    python benchmarks/gpu.py                         # exit status 2 without a GPU
    python benchmarks/gpu.py --device cpu            # small sizes, to try the program

For each precision: the shares of encoding and writing, the share of captions equal to fp32's, and kernel launches a
word (the difference between two calls that write different numbers of words; on a CPU, operators instead). A CUDA graph
is one launch. bf16 is the captioner's own engine; fp16, which it does not offer, is PyTorch's autocast. The last line
is JSON.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from engines import load
from figures import finish, side_by_side
from photographs import photographs
from torch.profiler import ProfilerActivity, profile

from model.decoding.caption import Caption
from model.decoding.options import DecodingOptions, Strategy
from model.network.encoded_images import EncodedImages
from model.runtime.captioner import SHIPPED, Captioner

_PRECISIONS = ("fp32", "bf16", "fp16")
_STRATEGIES = {"greedy": DecodingOptions(strategy=Strategy.GREEDY), "beam 3": DecodingOptions()}
_SIZES = {"cuda": [2**n for n in range(10)], "cpu": [1, 4]}
_ACTIVITIES = {"cuda": [ProfilerActivity.CPU, ProfilerActivity.CUDA], "cpu": [ProfilerActivity.CPU]}
# No caption ends before its second word, and few before the fifth: these steps run for all rows.
_FEW, _MORE = 2, 4


def main() -> int:
    """Run the command line and return the exit status."""
    arguments = _parser().parse_args()
    kind = torch.device(arguments.device).type
    if kind == "cuda" and not torch.cuda.is_available():
        print("PyTorch finds no GPU here; --device cpu tries the program with small sizes", file=sys.stderr)
        return 2
    captioners = {
        precision: load("auto-bf16" if precision == "bf16" else "auto", arguments.model, arguments.device)
        for precision in dict.fromkeys(("fp32", *arguments.precision))
    }
    captioner = captioners["fp32"]
    sizes = arguments.batch or _SIZES[kind]
    # A small sample, repeated: the time does not depend on the content.
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
    finish("gpu", {"device": device, "rows": rows})
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
    """One strategy and precision for a batch."""

    captioner: Captioner
    pixels: torch.Tensor
    options: DecodingOptions
    precision: str

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.pixels.device.type, torch.float16, enabled=self.precision == "fp16")

    def encode(self) -> EncodedImages:
        """Encode the pixels and wait for the GPU."""
        with self._autocast():
            encoded = self.captioner.encode(self.pixels)
        if self.pixels.is_cuda:
            torch.cuda.synchronize()
        return encoded

    def write(self, encoded: EncodedImages, options: DecodingOptions | None = None) -> list[Caption]:
        """Write and return the best caption of each picture."""
        with self._autocast():
            return [best for best, *_ in self.captioner.generate(encoded, options or self.options)]

    def all(self) -> list[Caption]:
        """Encode and write without waiting in between."""
        with self._autocast():
            return [best for best, *_ in self.captioner.caption_pixels(self.pixels, self.options)]

    def launches_a_word(self) -> float:
        """Return the number of launches for one more word of the whole batch."""
        encoded = self.encode()
        counts = []
        for words in (_FEW, _MORE):
            options = replace(self.options, max_words=words)
            self.write(encoded, options)  # anything done once is done now
            with profile(activities=_ACTIVITIES[self.pixels.device.type]) as profiler:
                self.write(encoded, options)
            events = profiler.key_averages()
            counts.append(sum(int(event.count) for event in events if _is_launch(event.key, self.pixels.is_cuda)))
        return (counts[1] - counts[0]) / (_MORE - _FEW)


def _is_launch(event: str, on_gpu: bool) -> bool:
    """Whether a profiler event is a CUDA launch or, on a CPU, a PyTorch operator."""
    if on_gpu:
        return "LaunchKernel" in event or event == "cudaGraphLaunch"
    return event.startswith("aten::")


def measure(
    captioners: dict[str, Captioner], pixels: torch.Tensor, precisions: Sequence[str], rounds: int
) -> list[dict[str, Any]]:
    """Print and return a row for each strategy and precision, measured in turn."""
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
