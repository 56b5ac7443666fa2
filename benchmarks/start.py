"""Time to start, and memory: of the whole service, and of a single caption without a service.

    python benchmarks/start.py

Each round starts new processes: `wordlight serve` until the first 200 of /readyz, with the memory of its processes then
and after some captions; and `wordlight caption FILE` until it has ended. One warm-up round comes first, so files come
from the page cache.

The last line is JSON: `ready_seconds`, `caption_seconds`, `memory_mib` {idle, after_captions} for each process.
"""

import argparse
import asyncio
import itertools
import subprocess
import sys
import time
from pathlib import Path

from figures import Sample, finish, print_table
from load import CaptionClient
from photographs import unique_photographs
from whole_service import ROOT, clean_environment, whole_service

from model.runtime.captioner import SHIPPED

_IN_FLIGHT = 16
_SETTLE_SECONDS = 1.0
_PHOTO = ROOT / "app" / "static" / "samples" / "moose.jpg"


def caption_seconds(photo: Path, model: Path) -> float:
    """Run `wordlight caption` and return the seconds from the start of its process to the end."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "wordlight", "caption", "--model", str(model), str(photo)]
    subprocess.run(command, cwd=ROOT, env=clean_environment(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def service_once(model: Path, captions: int) -> tuple[float, dict[str, float], dict[str, float]]:
    """Start a service; return seconds until ready, and MiB of each process when idle and after `captions`."""
    with whole_service(WORDLIGHT_MODEL=str(model)) as service:
        time.sleep(_SETTLE_SECONDS)
        idle = service.memory_mib()
        asyncio.run(_caption(service.port, captions))
        return service.ready_seconds, idle, service.memory_mib()


async def _caption(port: int, count: int) -> None:
    pictures = itertools.islice(unique_photographs(), count)
    async with CaptionClient(port) as client:

        async def one_after_the_other() -> None:
            for picture in pictures:
                await client.caption(picture)

        await asyncio.gather(*(one_after_the_other() for _ in range(_IN_FLIGHT)))


def main() -> None:
    """Measure and print."""
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
    times = {"ready_seconds": Sample(tuple(ready)).figures(), "caption_seconds": Sample(tuple(cold)).figures()}
    print_table([{"": name} | found for name, found in times.items()])
    memory = {
        when: {process: Sample(tuple(one[process] for one in found)).figures() for process in found[0]}
        for when, found in (("idle", idle), ("after_captions", after))
    }
    print_table(
        [
            {"MiB, median": process, "idle": memory["idle"][process]["median"]}
            | {f"after {arguments.captions} captions": memory["after_captions"][process]["median"]}
            for process in memory["idle"]
        ]
    )
    finish("start", times | {"captions": arguments.captions, "memory_mib": memory})


if __name__ == "__main__":
    main()
