"""Bounds the body of a request, whatever its Content-Length says."""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.types import Message

from app.problems import ProblemError

# How much of a refused body is still read, in multiples of the largest body, and for how long.
_DISCARDED_BODIES: Final = 4
_DISCARD_SECONDS: Final = 5.0


def too_large(kind: str, what: str, most: int) -> ProblemError:
    """Create the 413 for a `what` of more than `most` bytes. It closes the connection: more of the body may follow."""
    title = kind.replace("-", " ").capitalize()
    return ProblemError(kind, title, 413, f"The {what} is larger than {most:,} bytes.", {"Connection": "close"})


class Body:
    """The body of `request`."""

    def __init__(self, request: Request) -> None:
        header = request.headers.get("content-type", "")
        self.media_type = header.partition(";")[0].strip().lower()
        self._request = request
        self._most = 0
        self._refusal: ProblemError | None = None
        self._received = 0
        self._begun = self._ended = False

    def bounded(self, most: int, refusal: ProblemError) -> Request:
        """Return a request that raises `refusal` when more than `most` bytes of its body are read."""
        self._most, self._refusal = most, refusal
        if int(self._request.headers.get("content-length", 0)) > most:
            raise refusal
        return Request(self._request.scope, self._receive)

    async def discard(self, most: int) -> None:
        """Read on for a while before a refusal is sent: a client that is still sending would not see the response.

        `most` is the largest body, in bytes.
        """
        if not self._begun and "expect" in self._request.headers:
            return  # the client waits for 100 Continue before it sends
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self._ended and self._received <= _DISCARDED_BODIES * most:
                    await self._receive_any()

    async def _receive(self) -> Message:
        message = await self._receive_any()
        if self._refusal and self._received > self._most:
            raise self._refusal
        return message

    async def _receive_any(self) -> Message:
        self._begun = True
        message = await self._request.receive()
        self._ended = not message.get("more_body", False)  # a disconnect has no more_body either
        self._received += len(message.get("body", b""))
        return message
