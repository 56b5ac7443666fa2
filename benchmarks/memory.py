"""The memory of each process of a whole service over many jobs: it must not grow.

    python benchmarks/memory.py --jobs 100000

Starts `wordlight serve` with a captioner so small that the jobs go through in minutes (its words are nonsense), and
keeps requests under way. Ten times on the way the resident memory of each process is read. Answers are kept for a few
seconds only, or Valkey would hold more and more of them, as it should. Grown is the last half's most over the first
half's, the first point left out, for by then not everything that is kept has been there once.

The last line is JSON: `rows` [{jobs, supervisor, queue server, web process, worker, decoders}] in MiB, `growth`,
`per_second`.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from caption_client import CaptionClient
from figures import aim, finish, print_table
from fresh_photographs import small_photographs
from tiny_captioner import save_tiny_captioner
from whole_service import WholeService, whole_service

_POINTS = 10
_IN_FLIGHT = 24
_GROWTH = 1.1


async def measure(service: WholeService, jobs: int) -> dict[str, Any]:
    """Send so many pictures; returns the figures."""
    pictures, rows, began = small_photographs(), list[dict[str, float]](), time.perf_counter()
    async with CaptionClient(service.port) as client:
        for _ in range(_POINTS):
            left = iter(range(jobs // _POINTS))

            async def one_after_the_other(left: Any = left) -> None:
                for _ in left:
                    await client.caption(next(pictures))

            await asyncio.gather(*(one_after_the_other() for _ in range(_IN_FLIGHT)))
            rows.append({"jobs": (len(rows) + 1) * (jobs // _POINTS)} | service.memory_mib())
    per_second = rows[-1]["jobs"] / (time.perf_counter() - began)
    print_table(rows)
    growth = {
        process: round(max(row[process] for row in rows[5:]) / max(row[process] for row in rows[1:5]), 3)
        for process in rows[0]
        if process != "jobs"
    }
    return {"rows": rows, "growth": growth, "per_second": round(per_second, 1), "cached": client.cached}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000, metavar="N", help="default 20000")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default 16")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wordlight-") as folder:
        save_tiny_captioner(Path(folder))
        settings = {
            "WORDLIGHT_MODEL": folder,
            "WORDLIGHT_THREADS": "1",  # the tiny network is slower on several
            "WORDLIGHT_BATCH_SIZE": str(arguments.batch_size),
            "WORDLIGHT_RESULT_TTL_SECONDS": "5",
        }
        with whole_service(**settings) as service:
            figures = asyncio.run(measure(service, arguments.jobs))
    aims = {f"memory of {process}, growth": aim(ratio, most=_GROWTH) for process, ratio in figures["growth"].items()}
    finish("memory", figures, aims)


if __name__ == "__main__":
    main()
