"""Three ways to ask a service for captions: as fast as it can, one by one, and at a given rate by chance.

In: a client and JPEG files; out: captions/s, or latencies in seconds.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence

from caption_client import CaptionClient


async def saturate(client: CaptionClient, jpegs: Sequence[bytes], *, in_flight: int, lead: int) -> float:
    """Captions/s while `in_flight` requests are under way all the time.

    What comes before the first `lead` answers is left out, and so is what comes when no picture is left to send: a
    service that fills or drains is not saturated. What is counted should be a multiple of the worker's batch size,
    since answers come in batches.
    """
    counted = len(jpegs) - lead - in_flight
    assert lead > 0 < counted, "too few pictures"
    waiting, ends = iter(jpegs), list[float]()

    async def one_after_the_other() -> None:
        for jpeg in waiting:
            await client.caption(jpeg)
            ends.append(time.perf_counter())

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    return counted / (ends[lead + counted - 1] - ends[lead - 1])


async def latency(client: CaptionClient, jpeg: bytes) -> float:
    """Of one request, to a service that does nothing else."""
    started = time.perf_counter()
    await client.caption(jpeg)
    return time.perf_counter() - started


async def arriving(
    client: CaptionClient, jpegs: Iterator[bytes], rate: float, seconds: float, seed: int
) -> list[float]:
    """Latencies when pictures arrive by chance (a Poisson process), `rate` a second, whatever the service does.

    Each counts from the moment at which its picture was to arrive: should we be late, that is not taken off.
    """
    dice, gaps = random.Random(seed), list[float]()
    while sum(gaps) < seconds or len(gaps) < 2:
        gaps.append(dice.expovariate(rate))
    pictures = [next(jpegs) for _ in gaps]
    due = time.perf_counter()

    async def one(jpeg: bytes, at: float) -> float:
        await client.caption(jpeg)
        return time.perf_counter() - at

    tasks = []
    for gap, jpeg in zip(gaps, pictures, strict=True):
        due += gap
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(jpeg, due)))
    return list(await asyncio.gather(*tasks))
