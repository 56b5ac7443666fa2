"""Throughput and latency of the service beside the model alone.

    python benchmarks/service.py --data DIR [--workers 2]

Starts `wordlight serve` and loads the same captioner in this process. Both decode the same JPEG files with the same
code and write what a request without options asks for. No picture is sent twice.

- idle: one picture at a time, through both in turn. "Added" is the difference of the two medians, and of the two p99s.
- saturation: rounds of both in turn. The service has three batches a worker in flight; the model alone captions one
  batch after the other. The ratio is taken within a round.
- loop: GET /healthz every 20 ms from another process, idle and at saturation. The latency includes the wait for a core.
- load: pictures arrive at random at a share of the saturation rate. A latency starts when the picture was due.

The last line is JSON: `saturation` {service_per_second, direct_per_second, ratio, direct_stages_ms a picture},
`idle` {service, direct, added_ms}, `load` [{share, rate, p50_ms, …}], `loop` {idle, saturated}, `cached` (must be 0).
"""

import argparse
import asyncio
import io
import itertools
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from figures import Sample, finish, percentiles, print_table
from load import CaptionClient, arriving, latency, saturate
from photographs import unique_photographs
from PIL import Image
from whole_service import WholeService, clean_environment, whole_service

from app.images.limits import ImageLimits
from app.images.picture import prepare
from jobs.options import CaptionOptions
from model.decoding.options import DecodingOptions
from model.runtime.captioner import SHIPPED
from model.runtime.device import choose_device
from model.runtime.inference import load_for_inference

_BATCHES_IN_FLIGHT = 3
_BATCHES_BEFORE = 2
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
_STAGES = ("decode", "prepare", "encode", "write")
# Threads of one side that still spin for work would take time from the other.
_PAUSE_SECONDS = 0.05


class Direct:
    """The model alone: the web process's decoding, the worker's captioner and its options, in this process."""

    def __init__(self, folder: Path, batch_size: int, threads: int) -> None:
        """`threads` as in WORDLIGHT_THREADS: with 0, PyTorch chooses."""
        if threads:
            torch.set_num_threads(threads)
        self._captioner = load_for_inference(folder, choose_device("auto"))
        self._batch_size = batch_size
        asked = CaptionOptions()
        self._options = DecodingOptions(
            num_captions=asked.num_captions, beam_size=asked.beam_size, max_words=asked.max_words
        )
        self.stages: Counter[str] = Counter()  # seconds

    def caption(self, jpegs: Sequence[bytes]) -> float:
        """Caption all files, batch by batch, and return the seconds."""
        started = time.perf_counter()
        for first in range(0, len(jpegs), self._batch_size):
            self._batch(jpegs[first : first + self._batch_size])
        return time.perf_counter() - started

    def _batch(self, jpegs: Sequence[bytes]) -> None:
        moments = [time.perf_counter()]
        pictures = [prepare(jpeg, ImageLimits()).data for jpeg in jpegs]
        moments.append(time.perf_counter())
        images = [Image.open(io.BytesIO(picture)) for picture in pictures]
        pixels = torch.stack([self._captioner.prepare(image) for image in images])
        moments.append(time.perf_counter())
        encoded = self._captioner.encode(pixels)
        moments.append(time.perf_counter())
        self._captioner.generate(encoded, self._options)
        moments.append(time.perf_counter())
        for stage, begun, ended in zip(_STAGES, moments, moments[1:], strict=False):
            self.stages[stage] += ended - begun


class Comparison:
    """A service and the model alone, on the same pictures."""

    def __init__(self, arguments: argparse.Namespace, service: WholeService) -> None:
        self._arguments, self._service = arguments, service
        self._pictures: Iterator[bytes] = unique_photographs(arguments.data)
        self._direct = Direct(arguments.model, arguments.batch_size, arguments.threads)
        self._in_flight = _BATCHES_IN_FLIGHT * arguments.batch_size * arguments.workers
        self._lead = _BATCHES_BEFORE * arguments.batch_size * arguments.workers

    async def run(self) -> dict[str, Any]:
        """Measure everything."""
        async with CaptionClient(self._service.port) as client:
            idle = await self._idle(client)
            saturation = await self._saturation(client)
            loop = await self._loop(client)
            load = await self._load(client, saturation["service_per_second"]["median"])
            return {"saturation": saturation, "idle": idle, "load": load, "loop": loop, "cached": client.cached}

    def _take(self, count: int) -> list[bytes]:
        return list(itertools.islice(self._pictures, count))

    async def _saturation(self, client: CaptionClient) -> dict[str, Any]:
        counted = self._arguments.pictures
        self._direct.caption(self._take(self._arguments.batch_size))  # warm up at this batch size
        self._direct.stages.clear()
        rates = []
        for number in range(self._arguments.rounds):
            pictures = self._take(self._lead + counted + self._in_flight)
            same = pictures[self._lead : self._lead + counted]
            direct = 0.0
            if number % 2:
                direct = counted / self._direct.caption(same)
            service = await saturate(client, pictures, in_flight=self._in_flight, lead=self._lead)
            if not number % 2:
                direct = counted / self._direct.caption(same)
            rates.append((service, direct))
        print_table(
            [
                {"round": number + 1, "service/s": f"{service:.1f}", "direct/s": f"{direct:.1f}"}
                | {"ratio": f"{service / direct:.3f}"}
                for number, (service, direct) in enumerate(rates)
            ]
        )
        ours, theirs = (Sample(values) for values in zip(*rates, strict=True))
        pictures_seen = counted * len(rates)
        return {
            "service_per_second": ours.figures(),
            "direct_per_second": theirs.figures(),
            "ratio": ours.over(theirs).figures(),
            "direct_stages_ms": {
                stage: round(1000 * self._direct.stages[stage] / pictures_seen, 2) for stage in _STAGES
            },
        }

    async def _idle(self, client: CaptionClient) -> dict[str, Any]:
        service, direct = [], []
        for number in range(-5, self._arguments.singles):  # the first ones warm up
            (picture,) = self._take(1)
            both = {}
            for side in ("service", "direct") if number % 2 else ("direct", "service"):
                await asyncio.sleep(_PAUSE_SECONDS)
                both[side] = await latency(client, picture) if side == "service" else self._direct.caption([picture])
            if number >= 0:
                service.append(both["service"])
                direct.append(both["direct"])
        found = {"service": percentiles(service), "direct": percentiles(direct)}
        print_table([{"idle": side} | found[side] for side in found])
        added = {
            name: round(found["service"][f"{name}_ms"] - found["direct"][f"{name}_ms"], 2) for name in ("p50", "p99")
        }
        pairs = [ours - theirs for ours, theirs in zip(service, direct, strict=True)]
        return found | {"added_ms": added, "added_in_pairs": percentiles(pairs)}

    async def _loop(self, client: CaptionClient) -> dict[str, Any]:
        found = {}
        with _Probe(self._service.port) as probe:
            found["idle"] = percentiles(await asyncio.to_thread(probe.read, self._arguments.probes))
        pictures = self._take(self._lead + self._arguments.pictures + self._in_flight)
        with _Probe(self._service.port) as probe:
            await asyncio.to_thread(probe.read, 1)  # it runs
            await saturate(client, pictures, in_flight=self._in_flight, lead=self._lead)
            found["saturated"] = percentiles([*await asyncio.to_thread(probe.read, 1), *probe.end()])
        print_table([{"GET /healthz": when} | found[when] for when in found])
        return found

    async def _load(self, client: CaptionClient, saturation: float) -> list[dict[str, float]]:
        rows = []
        for number, share in enumerate(_SHARES):
            rate = share * saturation
            found = await arriving(client, self._pictures, rate, self._arguments.seconds, seed=number)
            rows.append({"share": share, "rate": round(rate, 2)} | percentiles(found))
        print_table(rows)
        return rows


class _Probe:
    """benchmarks/healthz_probe.py in a process of its own."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-c", "from healthz_probe import ask; ask()", str(port)]
        folder = Path(__file__).parent
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=folder, env=clean_environment(), bufsize=-1
        )
        assert self._process.stdout
        self._lines = self._process.stdout

    def __enter__(self) -> Self:
        return self

    def read(self, count: int) -> list[float]:
        """Wait for the next `count` latencies, in seconds."""
        return [float(self._lines.readline()) for _ in range(count)]

    def end(self) -> list[float]:
        """End the probe and return the remaining latencies, in seconds."""
        self._process.terminate()
        return [float(line) for line in self._lines if line.endswith(b"\n")]

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._lines.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="JPEG files, loose or in tars (default: generated)")
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="of both sides (default 16)")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="of each worker and of the model alone; 0: all cores"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="at saturation (default 5)")
    parser.add_argument("--pictures", type=int, default=96, metavar="N", help="counted in each round (default 96)")
    parser.add_argument("--singles", type=int, default=200, metavar="N", help="pictures one at a time (default 200)")
    parser.add_argument("--seconds", type=float, default=30, help="at each share of the load (default 30)")
    parser.add_argument("--probes", type=int, default=150, metavar="N", help="of the idle loop (default 150)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="they share the cores (default 1)")
    arguments = parser.parse_args()
    in_flight = _BATCHES_IN_FLIGHT * arguments.batch_size * arguments.workers
    settings = {
        "WORDLIGHT_MODEL": str(arguments.model.absolute()),
        "WORDLIGHT_BATCH_SIZE": str(arguments.batch_size),
        "WORDLIGHT_WORKERS": str(arguments.workers),
        "WORDLIGHT_MAX_UPLOADS": str(max(64, 2 * in_flight)),
    }
    if arguments.threads:
        settings["WORDLIGHT_THREADS"] = str(arguments.threads)
    with whole_service(**settings) as service:
        found = asyncio.run(Comparison(arguments, service).run())
    asked = {name: value for name, value in vars(arguments).items() if name not in ("data", "model")}
    finish("service", {"settings": asked | {"real": arguments.data is not None}} | found)


if __name__ == "__main__":
    main()
