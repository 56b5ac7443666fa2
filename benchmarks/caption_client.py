"""A client that costs next to nothing: on a small machine, one that is comfortable takes time away from the service.

In: JPEG files; out: when each was captioned. Connections are kept and used again, as a browser does it. It must not
know what is measured with it.
"""

import asyncio
import json
import re
import time
from types import TracebackType
from typing import Self

_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
# The server closes a connection that has idled for some seconds: not used again so late that they could cross.
_IDLE_SECONDS = 1.0
_WAIT_SECONDS = 60

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NotCaptioned(Exception):
    """The service refused a picture, or failed at it. The message is what it said."""


class CaptionClient:
    """As many connections to one service as are needed at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[float, _Connection]] = []
        self.cached = 0  # answers that were remembered ones, which nobody should be measuring

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, (_, writer) in self._idle:
            writer.close()

    async def caption(self, jpeg: bytes) -> None:
        """Returns when the whole answer with the captions is there. Raises NotCaptioned."""
        status, body = await self._ask(
            b"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Prefer: wait=%d\r\nContent-Length: %d\r\n\r\n" % (_WAIT_SECONDS, len(jpeg)),
            jpeg,
        )
        while status == 202 or b'"status":"queued"' in body[:200] or b'"status":"processing"' in body[:200]:
            path = json.loads(body)["links"]["self"].encode()
            request = b"GET %s?wait=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (path, _WAIT_SECONDS)
            status, body = await self._ask(request, b"")
        if status != 200 or b'"status":"succeeded"' not in body:
            raise NotCaptioned(f"{status}: {body[:500].decode(errors='replace')}")
        self.cached += b'"cached":true' in body

    async def _ask(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        reader, writer = connection = await self._connection()
        writer.writelines([head, body])
        said = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(said)
        assert length, said
        answer = await reader.readexactly(int(length[1]))
        self._idle.append((time.monotonic(), connection))
        return int(said.split(maxsplit=2)[1]), answer

    async def _connection(self) -> _Connection:
        while self._idle:
            since, connection = self._idle.pop()
            if time.monotonic() - since < _IDLE_SECONDS:
                return connection
            connection[1].close()
        return await asyncio.open_connection("127.0.0.1", self._port)
