"""An HTTP client that uses almost no CPU, and three ways to load the service with it.

On a small machine the client competes with the service for cores. So this one does no more than needed: HTTP/1.1 over
kept connections, responses with a Content-Length.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
# The server closes a connection that is idle for some seconds: do not use it when that could happen at the same time.
_IDLE_SECONDS = 1.0
_WAIT_SECONDS = 60

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NotCaptioned(Exception):
    """The service did not caption a picture. The message is its response."""


class Client:
    """As many kept connections to one local port as requests run at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[float, _Connection]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, (_, writer) in self._idle:
            writer.close()

    async def ask(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", prefer: str = ""
    ) -> tuple[int, bytes]:
        """Send a request and return the status and the body of its response."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"Content-Type: {content_type}"] * bool(content_type) + [f"Prefer: {prefer}"] * bool(prefer)
        reader, writer = connection = await self._connection()
        writer.writelines(["\r\n".join([*lines, "", ""]).encode(), body])
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length, head
        content = await reader.readexactly(int(length[1]))
        self._idle.append((time.monotonic(), connection))
        return int(head.split(maxsplit=2)[1]), content

    async def _connection(self) -> _Connection:
        while self._idle:
            since, connection = self._idle.pop()
            if time.monotonic() - since < _IDLE_SECONDS:
                return connection
            connection[1].close()
        return await asyncio.open_connection("127.0.0.1", self._port)


class CaptionClient(Client):
    """A client of the service. `cached` counts responses from the service's cache, which no benchmark wants."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.cached = 0

    async def caption(self, jpeg: bytes) -> None:
        """Send a picture and return when its captions arrive. Raises NotCaptioned."""
        wait = f"wait={_WAIT_SECONDS}"
        status, body = await self.ask("POST", "/v1/captions", jpeg, "image/jpeg", wait)
        while status == 202 or unfinished(body):
            status, body = await self.ask("GET", f"{json.loads(body)['links']['self']}?{wait}")
        if status != 200 or b'"status":"succeeded"' not in body:
            raise NotCaptioned(f"{status}: {body[:500].decode(errors='replace')}")
        self.cached += b'"cached":true' in body


def unfinished(body: bytes) -> bool:
    """Whether a job, as the service describes it, has not ended."""
    return b'"status":"queued"' in body[:200] or b'"status":"processing"' in body[:200]


async def saturate(client: CaptionClient, jpegs: Sequence[bytes], *, in_flight: int, lead: int) -> float:
    """Return captions/s with `in_flight` requests running at all times.

    The first `lead` captions do not count, nor do those after the last picture was sent: the service is not saturated
    while it fills or drains. The number that counts should be a multiple of the worker's batch size, since captions
    come in batches.
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
    """Return the seconds of one request to an idle service."""
    started = time.perf_counter()
    await client.caption(jpeg)
    return time.perf_counter() - started


async def arriving(
    client: CaptionClient, jpegs: Iterator[bytes], rate: float, seconds: float, seed: int
) -> list[float]:
    """Return latencies while pictures arrive as a Poisson process, `rate` a second, whatever the service does.

    A latency starts when the picture was due, even if it was sent later.
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
