"""A client of HTTP that sends any bytes whatever, on a connection that it keeps while it can.

In: requests as bytes; out: answers, or why there is none. It must not know what the requests are about.
"""

import http.client
import io
import json
import socket
from dataclasses import dataclass
from typing import Self

NOT_HTTP, NO_PROBLEM = (
    "not HTTP",
    "NO PROBLEM",
)  # errors without problem+json: to what is not HTTP at all; and to what is

_PROBLEM = "application/problem+json"
_SERVERS_OWN = b"Invalid HTTP request received."  # uvicorn's


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `kind` is the last part of a problem's type; empty for what is no error."""

    status: int
    kind: str


class NoAnswer(Exception):
    """The connection was closed without an answer, or was `silent` for too long."""

    def __init__(self, message: str, *, silent: bool) -> None:
        super().__init__(message)
        self.silent = silent


class RawClient:
    """One connection at a time, to a port on this machine."""

    def __init__(self, port: int, timeout_seconds: float) -> None:
        self._port, self._timeout = port, timeout_seconds
        self._connection: _Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def send(self, data: bytes, owed: int) -> list[Answer]:
        """Send `data`; returns the answers that it is owed. Raises NoAnswer when one is missing.

        What is owed none gets a connection of its own, our half of which is closed after it; the first answer that
        comes is returned, if any does.
        """
        if not owed:
            self.close()
        try:
            if self._connection is None:
                self._connection = _Connection(self._port, self._timeout)
            self._connection.send(data, last=not owed)
            method = "HEAD" if data.startswith(b"HEAD ") else "POST"
            answers = [self._read(method) for _ in range(max(1, owed))]
        except TimeoutError:
            self.close()
            raise NoAnswer(f"silent for {self._timeout:g} s", silent=True) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(f"closed: {type(error).__name__}: {error}", silent=False) from None
        if not owed:
            self.close()
        return answers

    def _read(self, method: str) -> Answer:
        if self._connection is None:
            raise ConnectionError("closed between two answers")
        response = http.client.HTTPResponse(self._connection, method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        if response.will_close:
            self.close()
        return Answer(response.status, _kind(response, body))


class _Connection:
    """A socket, and one buffer for all answers that are read from it."""

    def __init__(self, port: int, timeout_seconds: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = _KeptOpen(socket.SocketIO(self._socket, "r"))

    def send(self, data: bytes, *, last: bool) -> None:
        """Send all, and nothing after it if it is the `last`."""
        try:
            self._socket.sendall(data)
            if last:
                self._socket.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # it may have been answered before it was all sent; if not, reading will tell

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client wants of a socket."""
        return self._buffer

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class _KeptOpen(io.BufferedReader):
    """A buffer that http.client cannot close when it has read an answer: the next one may be in it."""

    def close(self) -> None:
        """Leave it open."""


def _kind(response: http.client.HTTPResponse, body: bytes) -> str:
    if response.status < 400 or not body:  # what HEAD asks for has no body
        return ""
    if response.headers.get_content_type() == _PROBLEM:
        return str(json.loads(body)["type"]).rpartition(":")[2]
    return NOT_HTTP if body == _SERVERS_OWN else NO_PROBLEM
