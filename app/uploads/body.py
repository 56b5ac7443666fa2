"""The body of a request, read no further than allowed, whether or not its length was told (truly).

In: a request; out: the same request with a bound, or the 413. It must not know what bodies are made of.
"""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.types import Message

from app.problems import ProblemError

# How much of a refused body is still read, and for how long.
_DISCARDED_BODIES: Final = 4
_DISCARD_SECONDS: Final = 5.0


def too_large(kind: str, what: str, most: int) -> ProblemError:
    """The 413 for a `what` of more than `most` bytes. The connection is closed: the rest of the body may still come."""
    title = kind.replace("-", " ").capitalize()
    return ProblemError(kind, title, 413, f"the {what} is larger than {most:,} bytes", {"Connection": "close"})


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
        """The request, but that reading more than `most` bytes of its body raises `refusal`."""
        self._most, self._refusal = most, refusal
        if int(self._request.headers.get("content-length", 0)) > most:
            raise refusal
        return Request(self._request.scope, self._receive)

    async def discard(self, most: int) -> None:
        """Read on for a while before the body is refused: a client that is still sending would not see our answer.

        `most` is how many bytes the body might have had.
        """
        if not self._begun and "expect" in self._request.headers:
            return  # it asks before it sends, and our answer is: no
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
        self._ended = not message.get("more_body", False)  # true of a disconnect as well
        self._received += len(message.get("body", b""))
        return message
