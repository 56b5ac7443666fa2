"""The HTTP server below the application: valid and malformed requests as raw bytes on real sockets.

Limits on slow clients are the proxy's: see test_proxy.py.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pytest
from starlette.types import Receive, Scope, Send

from app.http.server import Server

GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_GET = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"


@dataclass
class Application:
    """Answers with the request. /slow waits for `release`; /early does not read the body."""

    requests: list[Scope] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    disconnected: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.requests.append(scope)
        self.begun.set()
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            body, more = body + message["body"], message["more_body"]
        if scope["path"] == "/slow":
            await asyncio.to_thread(self.release.wait)
        answer = json.dumps({"path": scope["path"], "method": scope["method"], "body": body.decode()}).encode()
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
        )
        await send({"type": "http.response.body", "body": answer})


@dataclass
class Running:
    """A server of that application, and its port."""

    application: Application
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, *pieces: bytes) -> list["Answer"]:
        """Send the pieces, one by one, and read all answers until the server closes the connection."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return answers(connection)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(file: BinaryIO) -> Answer | None:
    """Read the next response, to its Content-Length or to the end. Returns None if the connection is closed."""
    if not (line := file.readline()):
        return None
    headers = {}
    while (header := file.readline()) not in (b"\r\n", b""):
        name, _, value = header.decode().partition(": ")
        headers[name.lower()] = value.rstrip()
    length = headers.get("content-length")
    return Answer(int(line.split()[1]), headers, file.read(int(length)) if length else file.read())


def answers(connection: socket.socket) -> list[Answer]:
    """Read all responses until the connection is closed."""
    with connection.makefile("rb") as file:
        return list(iter(lambda: read_answer(file), None))


def assert_malformed(answer: Answer) -> None:
    """Check that the server itself refused the request and closes the connection."""
    assert answer.status == 400, answer
    assert answer.headers["connection"] == "close"


def send_until_answered(connection: socket.socket, piece: bytes, pause: float = 0.02) -> list[Answer]:
    """Send the piece repeatedly, with pauses, until the server answers or closes the connection."""
    connection.settimeout(pause)
    while True:
        try:
            connection.sendall(piece)
            if not connection.recv(1, socket.MSG_PEEK):
                return []
            break
        except TimeoutError:
            continue
        except ConnectionError:
            return []
    connection.settimeout(30)
    return answers(connection)


@pytest.fixture(scope="module")
def _running() -> Iterator[Running]:
    listening = socket.create_server(("127.0.0.1", 0))
    running = Running(Application(), listening.getsockname()[1])

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await running.application(scope, receive, send)

    server = Server(application, on_stop=lambda: None)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield running
    server.should_exit = True
    thread.join()


@pytest.fixture
def server(_running: Running) -> Iterator[Running]:
    """A server whose application has received no request yet."""
    _running.application = Application()
    yield _running
    _running.application.release.set()


def test_a_connection_is_kept_alive(server: Running) -> None:
    with server.connect() as connection, connection.makefile("rb") as file:
        for number in ("1", "2", "3"):
            connection.sendall(POST + b"Content-Length: 1\r\n\r\n" + number.encode())
            answer = read_answer(file)
            assert answer
            assert answer.json()["body"] == number


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    post = POST + b"Content-Length: 2\r\n\r\nhi"
    received = server.ask(GET + post + LAST_GET)
    assert [(answer.json()["method"], answer.json()["body"]) for answer in received] == [
        ("GET", ""),
        ("POST", "hi"),
        ("GET", ""),
    ]


def test_a_request_may_arrive_byte_by_byte(server: Running) -> None:
    (answer,) = server.ask(*(bytes([byte]) for byte in LAST_GET))
    assert answer.status == 200


MALFORMED = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the target": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "a zero in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: \0\r\n\r\n",
    "length with a sign": POST + b"Content-Length: +3\r\n\r\nabc",
    "length below zero": POST + b"Content-Length: -3\r\n\r\nabc",
    "length in words": POST + b"Content-Length: three\r\n\r\nabc",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "chunks that are not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding like chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_refused_before_the_application(server: Running, name: str) -> None:
    (answer,) = server.ask(MALFORMED[name] + GET)
    assert_malformed(answer)
    assert not server.application.requests


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"])
def test_the_size_of_headers_is_bounded(server: Running, start: bytes) -> None:
    (answer,) = server.ask(start + b"a" * 33_000)
    assert_malformed(answer)
    assert not server.application.requests


def test_the_number_of_headers_is_bounded_by_their_size(server: Running) -> None:
    (answer,) = server.ask(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 6_000)
    assert_malformed(answer)
    assert not server.application.requests


def test_endless_headers_are_refused(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        (answer,) = send_until_answered(connection, b"a" * 10_000, pause=0.001)
    assert_malformed(answer)


@pytest.mark.parametrize(
    ("chunk", "endless"),
    [(b"0\r\n", b"X-T: y\r\n" * 1000), (b"0\r\nX-T: ", b"a" * 10_000), (b"1;a=", b"a" * 10_000)],
    ids=["trailers", "a trailer", "a chunk's extension"],
)
def test_trailers_and_chunk_extensions_are_bounded(server: Running, chunk: bytes, endless: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        (answer,) = send_until_answered(connection, endless, pause=0.001)
    assert_malformed(answer)
    assert server.application.disconnected.wait(30)


def test_a_body_of_many_chunks_is_read(server: Running) -> None:
    chunks = b"1;why=not\r\na\r\n" * 20_000
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    (answer,) = server.ask(head, chunks, b"0\r\nX-Trailer: t\r\n\r\n")
    assert answer.json()["body"] == "a" * 20_000
    assert b"x-trailer" not in [name for name, _ in server.application.requests[0]["headers"]]


def test_a_malformed_body_is_refused_and_disconnects_the_application(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        server.application.begun.wait()
        connection.sendall(b"not a number\r\n")
        (answer,) = answers(connection)
    assert_malformed(answer)
    assert server.application.disconnected.wait(30)


def test_garbage_after_a_request_does_not_affect_it(server: Running) -> None:
    first, second = server.ask(GET + b"garbage\r\n\r\n")
    assert (first.status, first.json()["path"]) == (200, "/echo")
    assert_malformed(second)


def test_http_1_0_closes_the_connection(server: Running) -> None:
    (answer,) = server.ask(b"GET /old HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.json()["path"]) == (200, "/old")


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_upgrade_offer_is_ignored(server: Running, pieces: int) -> None:
    # As `curl --http2` sends it.
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    sent = POST + upgrade + b"Content-Length: 5\r\n\r\nhello" + LAST_GET
    received = server.ask(sent) if pieces == 1 else server.ask(sent[:-2], sent[-2:])
    assert [answer.json()["body"] for answer in received] == ["hello", ""]


def test_a_websocket_handshake_is_answered_like_any_request(server: Running) -> None:
    websocket = (
        b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AA==\r\n"
    )
    (answer,) = server.ask(GET[:-2] + websocket + b"\r\n")
    assert (answer.status, answer.json()["path"]) == (200, "/echo")
    assert "upgrade" not in answer.headers
