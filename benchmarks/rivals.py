"""Alternatives on the same pictures in the same run: LitServe, BLIP-base, ViT-GPT2.

    .venv/bin/pip install -c constraints.txt --group bench      # for this program only
    python benchmarks/rivals.py --data DIR

From JPEG files to captions: our captioner, called directly; the same captioner behind LitServe over HTTP, with as many
clients as a batch has pictures; BLIP-base (greedy) and ViT-GPT2 (four beams) from `transformers`, with their default
configurations and random weights. These write exactly --tokens tokens; our captioner ends its sentences itself. Each
runs in its own process, and they take turns.

Captions a second are for the best batch size of each. Peak memory is the maximum of resident memory; for LitServe, of
all its processes, counting files that they share once. The last line is JSON.
"""

import argparse
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from engines import ENGINES
from figures import Sample, finish, side_by_side
from photographs import photographs
from rival_models import RIVALS, Setting

from model.runtime.captioner import SHIPPED

# Several batches of requests over HTTP: the first and the last batch are not full.
_REQUESTS_A_CLIENT = 4


def main() -> None:
    """Measure and print."""
    arguments = _parser().parse_args()
    for package in ("transformers", "litserve"):
        if find_spec(package) is None:
            sys.exit(f"{package} is not installed: pip install -c constraints.txt --group bench")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    threads = arguments.threads or torch.get_num_threads()
    most = max(arguments.batch)
    setting = Setting(arguments.model, arguments.engine, threads, arguments.tokens, most, arguments.toy)
    pictures = photographs(arguments.data, max(most, *arguments.rival_batch))
    files = [picture.encoded for picture in pictures]
    names = ["wordlight", *(name for name in RIVALS if name in arguments.rival and name != "wordlight")]
    with ExitStack() as stack:
        children = {}
        for name in names:
            children[name] = Child(name, setting, files)
            stack.callback(children[name].close)
        sizes = {
            (name, batch): batch * (_REQUESTS_A_CLIENT if name == "litserve" and batch > 1 else 1)
            for name in names
            for batch in (arguments.batch if name in ("wordlight", "litserve") else arguments.rival_batch)
        }
        tasks: dict[tuple[str, int], Callable[[], object]] = {
            (name, batch): partial(children[name].caption, count, batch) for (name, batch), count in sizes.items()
        }
        seconds = side_by_side(tasks, arguments.rounds)
        memory = {name: child.peak_mib() for name, child in children.items()}
    report(arguments, threads, sizes, seconds, memory)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto", choices=ENGINES, help="of our captioner (default: auto)")
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a data set, or a folder of JPEG files")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of each (default: PyTorch chooses)")
    parser.add_argument("--tokens", type=int, default=12, metavar="N", help="that BLIP and ViT-GPT2 write (default 12)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32], metavar="N", help="of ours (default: 1 32)")
    parser.add_argument("--rival-batch", type=int, nargs="+", default=[1, 4, 8], metavar="N", help="default: 1 4 8")
    parser.add_argument("--rival", nargs="+", default=[*RIVALS], choices=RIVALS, help="default: all of them")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--toy", action="store_true", help="tiny alternatives, to try this program")
    return parser


class Child:
    """One of the candidates, in its own process."""

    def __init__(self, name: str, setting: Setting, files: Sequence[bytes]) -> None:
        """Start it and wait until it is ready. Raises RuntimeError if it fails."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, name, setting, files))
        self._process.start()
        theirs.close()
        self._answer()

    def caption(self, count: int, at_once: int) -> None:
        """Caption `count` files, repeating them if there are fewer."""
        self._connection.send((count, at_once))
        self._answer()

    def peak_mib(self) -> float:
        """Maximum of its resident memory so far."""
        self._connection.send(None)
        return float(str(self._answer()))

    def close(self) -> None:
        """End it."""
        self._connection.close()
        self._process.join()

    def _answer(self) -> object:
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise RuntimeError("a rival failed") from answer
        return answer


def _work(connection: Connection, name: str, setting: Setting, files: Sequence[bytes]) -> None:
    """Serve requests in the child process until the parent closes the connection."""
    torch.set_num_threads(setting.threads)
    try:
        rival = RIVALS[name](setting)
    except Exception as error:
        connection.send(error)
        return
    try:
        connection.send("ready")
        while True:
            asked = connection.recv()
            if asked is None:
                connection.send(_peak_mib(rival.processes()))
            else:
                count, at_once = asked
                rival.caption([files[number % len(files)] for number in range(count)], at_once)
                connection.send("done")
    except EOFError:
        pass
    except Exception as error:
        connection.send(error)
    finally:
        rival.close()


def _peak_mib(processes: Sequence[int]) -> float:
    """Return the sum of the peaks; files that are mapped into memory count only once, for the largest process."""
    peaks, mapped = [], []
    for process in processes:
        status = Path(f"/proc/{process}/status").read_text()
        found = dict(re.findall(r"^(VmHWM|RssFile):\s+(\d+) kB", status, re.MULTILINE))
        peaks.append(int(found["VmHWM"]) / 1024)
        mapped.append(int(found["RssFile"]) / 1024)
    return sum(peaks) - sum(mapped) + max(mapped)


def report(
    arguments: argparse.Namespace,
    threads: int,
    sizes: dict[tuple[str, int], int],
    seconds: dict[tuple[str, int], Sample],
    memory: dict[str, float],
) -> None:
    """Print a table and the JSON line."""
    rates = {key: taken.rate(sizes[key]) for key, taken in seconds.items()}
    best = {}
    for name in memory:
        medians = {batch: rate.median for (of, batch), rate in rates.items() if of == name}
        best[name] = max(medians, key=medians.__getitem__)
    print(f"{threads} threads; medians of {arguments.rounds} rounds; rivals write {arguments.tokens} tokens\n")
    columns = ("captions a second", "at batch", "ms alone", "peak MiB", "Wordlight is … times as fast")
    print(f"{'':<12}" + "".join(f"{column:>32}" for column in columns))
    found: dict[str, dict[str, object]] = {}
    for name, batch in best.items():
        rate = rates[name, batch]
        times = rates["wordlight", best["wordlight"]].over(rate)
        smallest = min(size for of, size in rates if of == name)
        alone = seconds[name, smallest].scaled(1000 / sizes[name, smallest])
        row = (str(rate), str(batch), str(alone), f"{memory[name]:.0f}", str(times))
        print(f"{name:<12}" + "".join(f"{cell:>32}" for cell in row))
        found[name] = {
            "captions_a_second": {str(size): rates[of, size].figures() for of, size in rates if of == name},
            "best_batch": batch,
            "ms_alone": alone.figures(),
            "peak_mib": round(memory[name], 1),
            "wordlight_times": times.figures(),
        }
    figures = {"threads": threads, "tokens": arguments.tokens, "toy": arguments.toy, "rivals": found}
    finish("rivals", figures)


if __name__ == "__main__":
    main()
