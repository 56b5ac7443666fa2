"""Memory of each process of the service over many jobs. It must not grow.

    python benchmarks/memory.py --jobs 100000

Starts `wordlight serve` with a tiny, untrained captioner, so that the jobs take minutes, and keeps 24 requests running.
Reads the resident memory of each process ten times. Results expire after five seconds; otherwise Valkey's memory would
rightly grow. "Growth" is the maximum of the second half over that of the first, without the first reading.

The last line is JSON: `rows` [{jobs, supervisor, queue server, web process, worker, decoders}] in MiB, `growth`,
`per_second`, `cached` (must be 0).
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from figures import finish, print_table
from load import CaptionClient
from photographs import small_pictures
from whole_service import WholeService, whole_service

from model.network.decoder import DecoderConfig
from model.runtime.captioner import Captioner, CaptionerConfig
from model.text.vocabulary import Vocabulary

_POINTS = 10
_IN_FLIGHT = 24
_WORDS = ("a", "dog", "runs", "over", "green", "grass", "two", "children", "play", "water", "in", "the", "red")


def save_tiny_captioner(folder: Path) -> None:
    """Write an untrained captioner that takes almost no time, the same every time."""
    torch.manual_seed(0)
    decoder = DecoderConfig(embedding_size=32, hidden_size=32, annotation_size=32, attention_size=16)
    config = CaptionerConfig(name="tiny", encoder="test_efficientnet", image_size=96, decoder=decoder)
    Captioner(config, Vocabulary(_WORDS)).save(folder)


async def measure(service: WholeService, jobs: int) -> dict[str, Any]:
    """Send `jobs` pictures and return the figures."""
    pictures, rows, began = small_pictures(), list[dict[str, float]](), time.perf_counter()
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
    print_table([{"growth": process, "factor": factor} for process, factor in growth.items()])
    return {"rows": rows, "growth": growth, "per_second": round(per_second, 1), "cached": client.cached}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000, metavar="N", help="default 20000")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default 16")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wordlight-") as folder:
        save_tiny_captioner(Path(folder))
        settings = {
            "WORDLIGHT_MODEL": folder,
            "WORDLIGHT_THREADS": "1",  # more threads make the tiny network slower
            "WORDLIGHT_BATCH_SIZE": str(arguments.batch_size),
            "WORDLIGHT_RESULT_TTL_SECONDS": "5",
        }
        with whole_service(**settings) as service:
            finish("memory", asyncio.run(measure(service, arguments.jobs)))


if __name__ == "__main__":
    main()
