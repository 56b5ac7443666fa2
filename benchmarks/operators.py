"""Where the time of captioning one batch goes: PyTorch's operators, by the time spent in each itself.

    python benchmarks/operators.py                        # 32 pictures made on the spot, beam 3
    python benchmarks/operators.py --stage write --trace trace.json      # to look at in ui.perfetto.dev

Shares are of all operators; what Python does between them, and engines that are not PyTorch, are in the rest of the
time of the call. The profiler slows down what it looks at, most of all small operators: the call's time without it is
shown beside. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from engines import ENGINES, add_options, load
from photographs import photographs
from timing import side_by_side
from torch.profiler import ProfilerActivity, profile

from model.captioner import Captioner
from model.options import DecodingOptions


def main() -> None:
    """Measure, and print."""
    arguments = _parser().parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    captioner = load(arguments.engine, arguments.model, arguments.device)
    task = stage_of(captioner, arguments)
    usual = side_by_side({"call": task}, arguments.rounds)["call"].scaled(1000)
    on_gpu = captioner.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as profiler:
        started = time.perf_counter()
        task()
        profiled = (time.perf_counter() - started) * 1000
    if arguments.trace:
        profiler.export_chrome_trace(str(arguments.trace))
    # Time of the device where that is a GPU: there, an operator's own time on the CPU is that of asking for it.
    spent = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count)
        for event in profiler.key_averages()
    }
    total = sum(time_us for time_us, _ in spent.values()) or 1.0
    top = sorted(spent.items(), key=lambda item: item[1][0], reverse=True)[: arguments.top]
    print(f"{arguments.batch} pictures, {arguments.stage}: {usual} ms a call; {profiled:.0f} ms under the profiler,")
    print(f"of which {total / 1000:.0f} ms in {sum(count for _, count in spent.values())} operators\n")
    print(f"{'operator':<48}{'ms':>10}{'share':>10}{'calls':>10}")
    rows = []
    for name, (time_us, count) in top:
        print(f"{name[:46]:<48}{time_us / 1000:>10.2f}{time_us / total:>10.1%}{count:>10}")
        row = {"operator": name, "ms": round(time_us / 1000, 3), "share": round(time_us / total, 4), "calls": count}
        rows.append(row)
    figures = {"batch": arguments.batch, "stage": arguments.stage, "engine": arguments.engine}
    found = {"ms_a_call": usual.figures(), "ms_profiled": round(profiled, 2), "ms_in_operators": round(total / 1000, 2)}
    print(json.dumps({"benchmark": "operators", **figures, **found, "operators": rows}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=["all", "encode", "write"], default="all", help="default: all")
    parser.add_argument("--engine", default="auto", choices=ENGINES, help="of our captioner (default: auto)")
    add_options(parser)
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="default: 32")
    parser.add_argument("--beam", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="without the profiler (default 5)")
    parser.add_argument("--top", type=int, default=15, metavar="N", help="how many operators to show (default 15)")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write the profiler's trace there")
    return parser


def stage_of(captioner: Captioner, arguments: argparse.Namespace) -> Callable[[], object]:
    """What is to be looked at."""
    options = DecodingOptions(beam_size=arguments.beam)
    images = [picture.image() for picture in photographs(arguments.data, arguments.batch)]
    if arguments.stage == "all":
        return lambda: captioner.caption(images, options)
    pixels = torch.stack([captioner.prepare(image) for image in images])
    if arguments.stage == "encode":
        return lambda: captioner.encode(pixels)
    memory = captioner.encode(pixels)
    return lambda: captioner.write(memory, options)


if __name__ == "__main__":
    main()
