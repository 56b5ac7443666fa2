"""One HTTP connection, as uvicorn and httptools handle it, within bounds of its own.

In: bytes of a stranger; out: requests to the application, and to what is no request an answer in problem+json. Bounded
are the time that a client may take to ask for something, the size of what surrounds bodies, and how many requests may
wait behind one. It must not know what the application does.
"""

import asyncio
import logging
from typing import Any, Final, Self

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.http.request_ids import REQUEST_ID, new_request_id
from jobs.problem import Problem

log = logging.getLogger(__name__)

_MOST_HEADER_BYTES: Final = 32 * 1024
_MOST_HEADERS: Final = 100
_MOST_TARGET_BYTES: Final = 8 * 1024
_MOST_PIPELINED: Final = 16
# How long to go on reading what a refused client is still sending: closed at once, it might not see our answer.
_LINGER_SECONDS: Final = 2.0


class _Refused(Exception):
    """What came is answered by the server itself, and ends the connection."""

    def __init__(self, kind: str, status: int, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem.of(kind, kind.replace("-", " ").capitalize(), status, detail)


class HttpProtocol(HttpToolsProtocol):
    """A connection that is closed once it has idled, or sent what is no request, for `header_seconds`."""

    header_seconds: float = 10.0

    @classmethod
    def within(cls, header_seconds: float) -> type[Self]:
        """The same, with that time."""
        return type(cls.__name__, (cls,), {"header_seconds": header_seconds})

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = False
        # Bytes received since something came of any: headers, or a piece of a body.
        self._idle_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The client may take its time, but not for ever."""
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._unset_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came: whole requests or pieces of them."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._idle_bytes += len(data)
        try:
            self.parser.feed_data(data)
            self._check_size(self._idle_bytes)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_again_without_upgrade(data[upgrade.args[0] :])
        except _Refused as refused:
            self._refuse(refused.problem)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse((cause if isinstance(cause, _Refused) else _malformed(_reason(error))).problem)
        if self._nothing_owed():
            self._set_deadline()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or, after a body in chunks, a trailer: those are nobody's business."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """All that the application needs to begin."""
        self._check_head()
        self._in_head = False
        self._idle_bytes = 0
        if self.parser.should_upgrade():
            return
        self._unset_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The end of an answer."""
        super().on_response_complete()
        if self._in_head and self._nothing_owed():  # the next request has begun
            self._unset_keepalive_if_required()
            self._set_deadline()

    def _check_head(self) -> None:
        """Refuse what two readers might read in two ways (RFC 9112, 3.2 and 6.3), and what nobody here can do."""
        self._check_size(sum(len(name) + len(value) for name, value in self.headers))
        version, hosts = self.parser.get_http_version(), sum(name == b"host" for name, _ in self.headers)
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if version not in ("1.0", "1.1"):
            raise _Refused("http-version-not-supported", 505, "send HTTP/1.1")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise _malformed("a request has one Host header")
        if codings and version == "1.0":
            raise _malformed("HTTP/1.0 has no Transfer-Encoding")
        if codings and codings != [b"chunked"]:
            raise _Refused("not-implemented", 501, "the only Transfer-Encoding taken is chunked")
        if self.parser.get_method() == b"CONNECT":
            raise _Refused("not-implemented", 501, "this server is no proxy")
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise _malformed("wait for answers before you ask for more")

    def _check_size(self, header_bytes: int) -> None:
        if self._in_head and len(self.url) > _MOST_TARGET_BYTES:
            raise _Refused("target-too-long", 414, f"path and query exceed {_MOST_TARGET_BYTES:,} bytes")
        if header_bytes > _MOST_HEADER_BYTES or (self._in_head and len(self.headers) > _MOST_HEADERS):
            detail = f"there may be at most {_MOST_HEADERS} headers of {_MOST_HEADER_BYTES:,} bytes in all"
            raise _Refused("headers-too-large", 431, detail)

    def _read_again_without_upgrade(self, rest: bytes) -> None:
        """Read a request as if it had not offered to upgrade, which a server need not answer (RFC 9110, 7.8).

        After such an offer (curl --http2 makes one) httptools takes nothing for a body.
        """
        line = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        head = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join([line, *head, b"\r\n", rest]))

    def _nothing_owed(self) -> bool:
        """Whether every request that came has been answered."""
        return self.cycle is None or self.cycle.response_complete

    def _set_deadline(self) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.header_seconds, self._on_deadline)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self._deadline = None
        if self._in_head and not self._refused:
            detail = f"the headers were not complete within {self.header_seconds:g} s"
            self._refuse(_Refused("headers-too-slow", 408, detail).problem)
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer with `problem`, if it is its turn, and let the connection end."""
        self._refused = True
        if not self._nothing_owed():
            if not self.cycle.more_body:
                # It came behind requests that are fine: they are answered, and then it is over.
                self.cycle.keep_alive = False
                return
            if self.cycle.response_started or self.pipeline:
                self.transport.close()
                return
            # The request at hand has gone wrong: the application is told that its client is gone.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._answer(problem)
        self._unset_deadline()
        self._deadline = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _answer(self, problem: Problem) -> None:
        request_id = new_request_id()
        body = problem.model_copy(update={"request_id": request_id}).model_dump_json().encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (REQUEST_ID.lower().encode(), request_id.encode()),
        ]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + body)
        self.transport.write_eof()
        client = self.client[0] if self.client else ""
        extra = {"request_id": request_id, "status": problem.status, "client": client}
        log.info("answered %d to %s: %s", problem.status, client, problem.detail, extra=extra)


def _malformed(detail: str) -> _Refused:
    return _Refused("malformed-request", 400, detail)


def _reason(error: httptools.HttpParserError) -> str:
    # A callback of uvicorn's fails for one reason only: it cannot take the target apart.
    failed_callback = isinstance(error, httptools.HttpParserCallbackError)
    return "the target of the request is no path" if failed_callback else f"this is no HTTP: {error}"
