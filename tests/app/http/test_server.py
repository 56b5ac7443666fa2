"""The HTTP server below the application: raw bytes on real sockets, and what it makes of those that are no request."""

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
HEADER_SECONDS = 0.3


@dataclass
class Application:
    """Answers with what it was asked; what is asked of /slow only once `release` is set, what of /early at once."""

    asked: list[Scope] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    disconnected: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.asked.append(scope)
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
    """A server of that application, and where it listens."""

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
    """The next answer on a connection, by its Content-Length; None when the connection is closed."""
    if not (line := file.readline()):
        return None
    headers = {}
    while (header := file.readline()) not in (b"\r\n", b""):
        name, _, value = header.decode().partition(": ")
        headers[name] = value.rstrip()
    return Answer(int(line.split()[1]), headers, file.read(int(headers["content-length"])))


def answers(connection: socket.socket) -> list[Answer]:
    """All that comes until the connection is closed."""
    with connection.makefile("rb") as file:
        return list(iter(lambda: read_answer(file), None))


def assert_problem(answer: Answer, status: int, kind: str) -> None:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    body = answer.json()
    assert body["type"] == f"urn:wordlight:problem:{kind}"
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"] != ""


def send_until_answered(connection: socket.socket, piece: bytes, pause: float = 0.02) -> list[Answer]:
    """Send the piece again and again, a little apart, until the server has something to say, or ends it."""
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

    server = Server(application, header_seconds=HEADER_SECONDS, on_stop=lambda: None)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield running
    server.should_exit = True
    thread.join()


@pytest.fixture
def server(_running: Running) -> Iterator[Running]:
    """A server whose application has not been asked for anything yet."""
    _running.application = Application()
    yield _running
    _running.application.release.set()


def test_who_says_nothing_is_shown_out(server: Running) -> None:
    assert server.ask() == []


@pytest.mark.parametrize("half", [b"G", b"GET /echo HTTP/1.1\r\n", b"GET /echo HTTP/1.1\r\nHost: x\r\nX-A: b"])
def test_half_a_head_is_told_that_time_is_up(server: Running, half: bytes) -> None:
    (answer,) = server.ask(half)
    assert_problem(answer, 408, "headers-too-slow")
    assert not server.application.asked


def test_a_head_that_drips_wins_no_time(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /echo HTTP/1.1\r\n")
        (answer,) = send_until_answered(connection, b"X-A: b\r\n")
    assert_problem(answer, 408, "headers-too-slow")


def test_line_breaks_are_no_request(server: Running) -> None:
    with server.connect() as connection:
        assert send_until_answered(connection, b"\r\n") == []


def test_half_a_head_after_an_answer_is_told_too(server: Running) -> None:
    first, second = server.ask(GET, b"GET /echo")
    assert first.status == 200
    assert_problem(second, 408, "headers-too-slow")


@pytest.mark.parametrize(
    ("request_", "drip"),
    [(GET, b"\r\n"), (b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n", b"x")],
    ids=["line breaks", "the body of a request that was answered"],
)
def test_what_drips_after_an_answer_does_not_keep_a_connection(server: Running, request_: bytes, drip: bytes) -> None:
    with server.connect() as connection, connection.makefile("rb") as file:
        connection.sendall(request_)
        answer = read_answer(file)
        assert answer
        assert answer.status == 200
        assert send_until_answered(connection, drip) == []


def test_who_waits_for_an_answer_may_wait(server: Running) -> None:
    with server.connect() as waiting:
        waiting.sendall(GET.replace(b"/echo", b"/slow") + LAST_GET)
        server.application.begun.wait()
        assert server.ask() == []  # so the time is over, for one who came later
        server.application.release.set()
        assert [answer.json()["path"] for answer in answers(waiting)] == ["/slow", "/last"]


def test_several_requests_on_one_connection(server: Running) -> None:
    with server.connect() as connection, connection.makefile("rb") as file:
        for number in ("1", "2", "3"):
            connection.sendall(POST + b"Content-Length: 1\r\n\r\n" + number.encode())
            answer = read_answer(file)
            assert answer
            assert answer.json()["body"] == number


def test_requests_in_one_piece_are_answered_in_order(server: Running) -> None:
    post = POST + b"Content-Length: 2\r\n\r\nhi"
    found = server.ask(GET + post + LAST_GET)
    assert [(answer.json()["method"], answer.json()["body"]) for answer in found] == [
        ("GET", ""),
        ("POST", "hi"),
        ("GET", ""),
    ]


def test_requests_in_single_bytes(server: Running) -> None:
    (answer,) = server.ask(*(bytes([byte]) for byte in LAST_GET))
    assert answer.status == 200


MALFORMED = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no method": b"HELLO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "target of a proxy's": b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the target": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
    "a zero in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: \0\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "length with a sign": POST + b"Content-Length: +3\r\n\r\nabc",
    "length below zero": POST + b"Content-Length: -3\r\n\r\nabc",
    "length in words": POST + b"Content-Length: three\r\n\r\nabc",
    "length beyond all": POST + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "chunks that are not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_told_so_and_hidden_from_the_application(server: Running, name: str) -> None:
    (answer,) = server.ask(MALFORMED[name] + GET)
    assert_problem(answer, 400, "malformed-request")
    assert not server.application.asked


REFUSED = {
    "a proxy's request": (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501, "not-implemented"),
    "a coding unknown here": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "not-implemented"),
    "a coding like chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, "not-implemented"),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505, "http-version-not-supported"),
    "a long target": (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % bytes(b"a" * 9000), 414, "target-too-long"),
    "a longer target": (b"GET /%s" % bytes(b"a" * 900_000), 414, "target-too-long"),
    "a long header": (b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % bytes(b"a" * 33_000), 431, "headers-too-large"),
    "a longer header": (b"GET / HTTP/1.1\r\nX: %s" % bytes(b"a" * 900_000), 431, "headers-too-large"),
    "a long name": (b"GET / HTTP/1.1\r\n%s" % bytes(b"a" * 900_000), 431, "headers-too-large"),
    "many headers": (b"GET / HTTP/1.1\r\n%s\r\n" % (b"X: y\r\n" * 101), 431, "headers-too-large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_too_much_is_refused_by_name(server: Running, name: str) -> None:
    request, status, kind = REFUSED[name]
    (answer,) = server.ask(request)
    assert_problem(answer, status, kind)
    assert not server.application.asked


def test_headers_without_end_are_cut_off(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        (answer,) = send_until_answered(connection, b"a" * 10_000, pause=0.001)
    assert_problem(answer, 431, "headers-too-large")


@pytest.mark.parametrize(
    ("chunk", "endless"),
    [(b"0\r\n", b"X-T: y\r\n" * 1000), (b"0\r\nX-T: ", b"a" * 10_000), (b"1;a=", b"a" * 10_000)],
    ids=["trailers", "a trailer", "a chunk's extension"],
)
def test_what_surrounds_chunks_is_bounded_too(server: Running, chunk: bytes, endless: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        (answer,) = send_until_answered(connection, endless, pause=0.001)
    assert_problem(answer, 431, "headers-too-large")
    assert server.application.disconnected.wait(30)


def test_a_body_in_many_chunks_is_taken(server: Running) -> None:
    chunks = b"1;why=not\r\na\r\n" * 20_000
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    (answer,) = server.ask(head, chunks, b"0\r\nX-Trailer: t\r\n\r\n")
    assert answer.json()["body"] == "a" * 20_000
    assert b"x-trailer" not in [name for name, _ in server.application.asked[0]["headers"]]


def test_a_body_that_goes_wrong_is_answered_and_the_application_told(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        server.application.begun.wait()
        connection.sendall(b"not a number\r\n")
        (answer,) = answers(connection)
    assert_problem(answer, 400, "malformed-request")
    assert server.application.disconnected.wait(30)


def test_garbage_behind_a_request_costs_it_nothing(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(GET.replace(b"/echo", b"/slow") + GET + b"garbage\r\n\r\n" + LAST_GET)
        server.application.begun.wait()
        server.application.release.set()
        assert [(answer.status, answer.json()["path"]) for answer in answers(connection)] == [
            (200, "/slow"),
            (200, "/echo"),
        ]


def test_a_long_queue_behind_one_request_is_cut(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(GET.replace(b"/echo", b"/slow") + GET * 1000)
        server.application.begun.wait()
        server.application.release.set()
        found = answers(connection)
    assert [answer.json()["path"] for answer in found] == ["/slow", *(["/echo"] * 16)]


def test_http_1_0_is_answered_and_closed(server: Running) -> None:
    (answer,) = server.ask(b"GET /old HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.json()["path"]) == (200, "/old")


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_offer_to_upgrade_is_ignored_and_its_body_read(server: Running, pieces: int) -> None:
    # As `curl --http2` sends it.
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    sent = POST + upgrade + b"Content-Length: 5\r\n\r\nhello" + LAST_GET
    found = server.ask(sent) if pieces == 1 else server.ask(sent[:-2], sent[-2:])
    assert [answer.json()["body"] for answer in found] == ["hello", ""]


def test_a_websocket_is_answered_like_any_request(server: Running) -> None:
    websocket = (
        b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AA==\r\n"
    )
    (answer,) = server.ask(GET[:-2] + websocket + b"\r\n")
    assert (answer.status, answer.json()["path"]) == (200, "/echo")
    assert "upgrade" not in answer.headers
