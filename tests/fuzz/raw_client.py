"""An HTTP client that sends arbitrary bytes over a keep-alive connection."""

import http.client
import io
import json
import socket
from dataclasses import dataclass
from typing import Self

# Error responses without a problem+json body: uvicorn's own response to malformed HTTP, and everything else.
NOT_HTTP, NO_PROBLEM = "not HTTP", "NO PROBLEM"

_PROBLEM = "application/problem+json"
_SERVERS_OWN = b"Invalid HTTP request received."  # uvicorn's


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response. `kind` is the last part of the problem's type, or empty if there is no error."""

    status: int
    kind: str


class NoAnswer(Exception):
    """No response came: the connection was closed, or timed out (`silent`)."""

    def __init__(self, message: str, *, silent: bool) -> None:
        super().__init__(message)
        self.silent = silent


class RawClient:
    """A client with one connection at a time to a local port."""

    def __init__(self, port: int, timeout_seconds: float) -> None:
        self._port, self._timeout = port, timeout_seconds
        self._connection: _Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def send(self, data: bytes, owed: int) -> list[Answer]:
        """Send `data` and return the `owed` responses. Raises NoAnswer if one is missing.

        Data that is owed no response gets its own connection, half-closed after sending. The first response is
        returned, if one comes.
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
            raise NoAnswer(f"no response for {self._timeout:g} s", silent=True) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(f"closed: {type(error).__name__}: {error}", silent=False) from None
        if not owed:
            self.close()
        return answers

    def _read(self, method: str) -> Answer:
        if self._connection is None:
            raise ConnectionError("closed between two responses")
        response = http.client.HTTPResponse(self._connection, method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        if response.will_close:
            self.close()
        return Answer(response.status, _kind(response, body))


class _Connection:
    """A socket with one read buffer for all its responses."""

    def __init__(self, port: int, timeout_seconds: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = _KeptOpen(socket.SocketIO(self._socket, "r"))

    def send(self, data: bytes, *, last: bool) -> None:
        """Send all of `data`. If it is the `last`, close our half of the connection."""
        try:
            self._socket.sendall(data)
            if last:
                self._socket.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # the server may have responded before it read everything; if not, reading fails

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Implement the part of a socket that http.client uses."""
        return self._buffer

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class _KeptOpen(io.BufferedReader):
    """A buffer that http.client cannot close after a response: it may already hold the next one."""

    def close(self) -> None:
        """Do nothing."""


def _kind(response: http.client.HTTPResponse, body: bytes) -> str:
    if response.status < 400 or not body:  # responses to HEAD have no body
        return ""
    if response.headers.get_content_type() == _PROBLEM:
        return str(json.loads(body)["type"]).rpartition(":")[2]
    return NOT_HTTP if body == _SERVERS_OWN else NO_PROBLEM
