"""Memory, and how long one waits: for a service to be ready, and for the first caption of a cold command.

    python benchmarks/start.py [--photo FILE]

Rounds of both in turn, each from a fresh process: `wordlight serve` (what `make serve` runs once all is installed)
until /readyz says 200 for the first time, its resident memory then and after some captions; and `wordlight caption
FILE` until it has ended. Before the first round each runs once, so files come from the page cache: cold means the
process.

The last line is JSON: `ready_seconds`, `caption_seconds`, `memory_mib` {idle, after_captions} with each process's
median, least and most.
"""

import argparse
import asyncio
import itertools
import subprocess
import sys
import time
from pathlib import Path

from caption_client import CaptionClient
from figures import aim, finish, print_table, spread
from fresh_photographs import photographs
from whole_service import ROOT, clean_environment, whole_service

from model.captioner import SHIPPED

_IN_FLIGHT = 16
_SETTLE_SECONDS = 1.0
_PHOTO = ROOT / "app" / "static" / "samples" / "moose.jpg"


def caption_seconds(photo: Path, model: Path) -> float:
    """`wordlight caption` from the start of its process to its end."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "wordlight", "caption", "--model", str(model), str(photo)]
    subprocess.run(command, cwd=ROOT, env=clean_environment(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def service_once(model: Path, captions: int) -> tuple[float, dict[str, float], dict[str, float]]:
    """Seconds until it is ready; MiB of each process then, and after so many captions."""
    with whole_service(WORDLIGHT_MODEL=str(model)) as service:
        time.sleep(_SETTLE_SECONDS)
        idle = service.memory_mib()
        asyncio.run(_caption(service.port, captions))
        return service.ready_seconds, idle, service.memory_mib()


async def _caption(port: int, count: int) -> None:
    pictures = itertools.islice(photographs(), count)
    async with CaptionClient(port) as client:

        async def one_after_the_other() -> None:
            for picture in pictures:
                await client.caption(picture)

        await asyncio.gather(*(one_after_the_other() for _ in range(_IN_FLIGHT)))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of both (default 5)")
    parser.add_argument("--captions", type=int, default=200, metavar="N", help="before memory is read again")
    parser.add_argument("--photo", type=Path, default=_PHOTO, metavar="FILE", help="for `wordlight caption`")
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    arguments = parser.parse_args()
    photo, model = arguments.photo.absolute(), arguments.model.absolute()
    caption_seconds(photo, model)
    service_once(model, 0)
    ready, cold, idle, after = [], [], [], []
    for _ in range(arguments.rounds):
        ready_seconds, memory_idle, memory_after = service_once(model, arguments.captions)
        ready.append(ready_seconds)
        idle.append(memory_idle)
        after.append(memory_after)
        cold.append(caption_seconds(photo, model))
    times = {"wordlight serve, ready": spread(ready, 2), "wordlight caption, cold": spread(cold, 2)}
    print_table([{"seconds": name} | found for name, found in times.items()])
    memory = {
        when: {process: spread([one[process] for one in found], 1) for process in found[0]}
        for when, found in (("idle", idle), ("after_captions", after))
    }
    print_table(
        [
            {"MiB, median": process, "idle": memory["idle"][process]["median"]}
            | {f"after {arguments.captions} captions": memory["after_captions"][process]["median"]}
            for process in memory["idle"]
        ]
    )
    settled = memory["after_captions"]
    aims = {
        "web process, MiB": aim(settled["web process"]["median"], most=150),
        "worker, MiB": aim(settled["worker"]["median"], most=700),
        "ready, seconds": aim(times["wordlight serve, ready"]["median"], most=8),
        "one caption cold, seconds": aim(times["wordlight caption, cold"]["median"], most=4),
    }
    ready_and_cold = {
        "ready_seconds": times["wordlight serve, ready"],
        "caption_seconds": times["wordlight caption, cold"],
    }
    finish("start", ready_and_cold | {"captions": arguments.captions, "memory_mib": memory}, aims)


if __name__ == "__main__":
    main()
