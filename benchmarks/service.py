"""What the service costs over the model alone: captions/s at saturation, latency idle and under load, the loop's lag.

    python benchmarks/service.py [--data DIR] [--model DIR]

Starts `wordlight serve` (embedded Valkey, web process, a worker or several) and loads the same captioner into this
process. Pictures are JPEG files, none sent twice; both sides decode them as the web process does, and write what a
request without options asks for.

- saturation: rounds of both in turn, on the same pictures. The service has three batches a worker in flight; the model
  in this process does one batch after the other. The ratio is taken within each round.
- idle: one picture at a time, through both in turn, the order changing. Added is the difference of the medians, and of
  the p99s.
- load: pictures arrive by chance at a share of the saturation just measured; latency counts from when they were to
  arrive.
- loop: GET /healthz every 20 ms from a process of its own, idle and at saturation. The clock counts the wait for a
  processor, too, where the cores are all busy.

The last line is JSON: `saturation` {service_per_second, direct_per_second, ratio, direct_stages_ms (per picture)},
`idle` {service, direct, added_ms}, `load` [{share, rate, p50_ms, …}], `loop` {idle, saturated}, `cached` (must be 0).
"""

import argparse
import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from caption_client import CaptionClient
from direct import STAGES, Direct
from figures import aim, finish, percentiles, print_table, spread
from fresh_photographs import photographs
from load import arriving, latency, saturate
from whole_service import WholeService, clean_environment, whole_service

from model.captioner import SHIPPED

_BATCHES_IN_FLIGHT = 3
_BATCHES_BEFORE = 2
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
# Threads of the one side that still spin for work would take time from the other.
_PAUSE_SECONDS = 0.05
_IDLE_PROBE_SECONDS = 3.0


class Comparison:
    """A service and the model in this process, on the same pictures."""

    def __init__(self, arguments: argparse.Namespace, service: WholeService) -> None:
        self._arguments, self._service = arguments, service
        self._pictures: Iterator[bytes] = photographs(arguments.data)
        self._direct = Direct(arguments.model, arguments.batch_size, arguments.threads)
        self._in_flight = _BATCHES_IN_FLIGHT * arguments.batch_size * arguments.workers
        self._lead = _BATCHES_BEFORE * arguments.batch_size * arguments.workers

    async def run(self) -> dict[str, Any]:
        """All figures."""
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
        self._direct.caption(self._take(self._arguments.batch_size))  # warm at this batch size
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
        seen = counted * len(rates)
        return {
            "service_per_second": spread([service for service, _ in rates]),
            "direct_per_second": spread([direct for _, direct in rates]),
            "ratio": spread([service / direct for service, direct in rates]),
            "direct_stages_ms": {stage: round(1000 * self._direct.stages[stage] / seen, 2) for stage in STAGES},
        }

    async def _idle(self, client: CaptionClient) -> dict[str, Any]:
        service, direct = [], []
        for number in range(-5, self._arguments.singles):  # the first are for warming up
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
            await asyncio.sleep(_IDLE_PROBE_SECONDS)
            found["idle"] = percentiles(probe.end())
        pictures = self._take(self._lead + self._arguments.pictures + self._in_flight)
        with _Probe(self._service.port) as probe:
            await saturate(client, pictures, in_flight=self._in_flight, lead=self._lead)
            found["saturated"] = percentiles(probe.end())
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
    """benchmarks/healthz_probe.py, running."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-c", "from healthz_probe import ask; ask()", str(port)]
        folder = Path(__file__).parent
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env=clean_environment())

    def __enter__(self) -> Self:
        return self

    def end(self) -> list[float]:
        """Its latencies, in seconds."""
        self._process.terminate()
        lines, _ = self._process.communicate()
        return [float(line) for line in lines.splitlines(keepends=True) if line.endswith(b"\n")]

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="JPEG files, loose or in tars (default: made ones)")
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="of both sides (default 16)")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="of each worker and of the model alone; 0: all cores"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="at saturation (default 5)")
    parser.add_argument("--pictures", type=int, default=96, metavar="N", help="counted in each round (default 96)")
    parser.add_argument("--singles", type=int, default=200, metavar="N", help="pictures one at a time (default 200)")
    parser.add_argument("--seconds", type=float, default=30, help="at each share of the load (default 30)")
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
    added = found["idle"]["added_ms"]
    aims = {
        "captions/s through HTTP over those of the model alone": aim(
            found["saturation"]["ratio"]["median"], least=0.95
        ),
        "latency added when idle, median, ms": aim(added["p50"], most=8),
        "latency added when idle, p99, ms": aim(added["p99"], most=20),
    }
    asked = {name: value for name, value in vars(arguments).items() if name not in ("data", "model")}
    finish("service", {"settings": asked | {"real": arguments.data is not None}} | found, aims)


if __name__ == "__main__":
    main()
