"""The proxy of docker-compose.yml with its real configuration, in front of a real web process."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis
from support import tiny
from support.api import encode
from support.command import Command, free_port, start_command
from support.queueing import claim_all
from support.running import read_events

from jobs.consumer import Consumer
from jobs.settings import QueueSettings

CADDYFILE = Path(__file__).parents[3] / "docker" / "Caddyfile"
PICTURE = encode(tiny.picture("red", "green"))
JPEG = {"Content-Type": "image/jpeg"}


@contextmanager
def proxy(app_port: int, **environment: str) -> Iterator[str]:
    """Run a proxy for that port of this machine, where a web process may start later. Yields the proxy's address."""
    port, health = free_port(), free_port()
    command = Command(
        Popen(
            [Path(sys.executable).parent / "caddy", "run", "--config", CADDYFILE, "--adapter", "caddyfile"],
            env={
                "WORDLIGHT_PROXY_PORT": str(port),
                "WORDLIGHT_PROXY_HEALTH_PORT": str(health),
                "WORDLIGHT_APP_NAME": "127.0.0.1",
                "WORDLIGHT_APP_PORT": str(app_port),
                **environment,
            },
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
        )
    )
    try:
        command.wait_for_line("serving initial configuration")
        assert httpx.get(f"http://127.0.0.1:{health}/").status_code == 204
        yield f"http://127.0.0.1:{port}"
    finally:
        command.end()


def start_app(redis_url: str, port: int, **environment: str) -> Command:
    command = start_command(
        "api", REDIS_URL=redis_url, WORDLIGHT_PORT=str(port), WORDLIGHT_LOG_FORMAT="json", **environment
    )
    command.wait_for_line("startup complete")
    return command


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}


@pytest.fixture
def app(redis_url: str) -> Iterator[tuple[Command, int]]:
    """A web process without a worker, and its port."""
    port = free_port()
    command = start_app(redis_url, port, WORDLIGHT_MAX_UPLOAD_BYTES="3000000")
    yield command, port
    command.end()


@pytest.fixture
def through(app: tuple[Command, int], home: dict[str, str]) -> Iterator[httpx.Client]:
    """A client of that web process, through the proxy."""
    with proxy(app[1], **home) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def test_events_are_not_buffered(
    through: httpx.Client, app: tuple[Command, int], settings: QueueSettings, redis: Redis
) -> None:
    events = through.post("/v1/captions", content=PICTURE, headers=JPEG).json()["links"]["events"]
    consumer = Consumer(redis, settings)
    with through.stream("GET", events) as answer:
        received_events = read_events(answer.iter_lines())
        assert next(received_events).name == "queued"
        # The event arrived before anything else happened: the job starts only now.
        (claim,) = consumer.start(claim_all(consumer, 1))
        assert next(received_events).name == "processing"
        assert consumer.publish_words([(claim, 0, ['{"word": 1}'])]) == set()
        assert next(received_events).name == "word"
    # The web process notices that the client has disconnected.
    line = json.loads(app[0].wait_for_line("/events"))
    assert (line["status"], line["finished"]) == (200, False)


@pytest.mark.parametrize("headers", [{}, {"Expect": "100-continue"}], ids=["immediately", "after 100 Continue"])
def test_upload_limits_are_those_of_the_web_process(through: httpx.Client, headers: dict[str, str]) -> None:
    allowed = through.post("/v1/captions", content=PICTURE + 2_900_000 * b"\0", headers=JPEG | headers)
    assert allowed.status_code == 202
    refused = through.post("/v1/captions", content=PICTURE + 6_000_000 * b"\0", headers=JPEG | headers)
    assert refused.status_code == 413
    assert refused.json()["type"].endswith("image-too-large")


@pytest.mark.parametrize(
    ("trusted", "client"), [("192.0.2.0/24", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.9")], ids=["no", "yes"]
)
def test_only_trusted_proxies_set_the_client_address(
    redis_url: str, home: dict[str, str], trusted: str, client: str
) -> None:
    port = free_port()
    app = start_app(redis_url, port)
    with proxy(port, WORDLIGHT_FRONT_PROXIES=trusted, **home) as address:
        httpx.get(f"{address}/", headers={"X-Forwarded-For": "198.51.100.7, 203.0.113.9"})
    app.end()
    (line,) = [json.loads(line) for line in app.lines if '"app.http.access_log"' in line]
    assert line["client"] == client


def test_the_proxy_waits_for_a_starting_web_process(redis_url: str, home: dict[str, str]) -> None:
    port = free_port()
    sent = threading.Event()

    def body() -> Iterator[bytes]:
        sent.set()
        yield PICTURE

    with proxy(port, WORDLIGHT_PROXY_PATIENCE="60s", **home) as address, ThreadPoolExecutor() as threads:
        asked = threads.submit(httpx.post, f"{address}/v1/captions", content=body(), headers=JPEG, timeout=60)
        assert sent.wait(30)
        app = start_app(redis_url, port)
        assert asked.result().status_code == 202
        app.end()


def test_without_a_web_process_the_answer_is_a_problem(home: dict[str, str]) -> None:
    with proxy(free_port(), WORDLIGHT_PROXY_PATIENCE="1s", **home) as address:
        answer = httpx.get(f"{address}/", timeout=60)
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["status"] == 502


# Slow and oversized headers


class RawClient:
    """A raw connection to a proxy with limits of 0.3 s for headers and for idle connections."""

    def __init__(self, address: str) -> None:
        url = urlsplit(address)
        self._socket = socket.create_connection((url.hostname or "", url.port or 0), timeout=60)

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read_to_end(self) -> bytes:
        """Read until the proxy closes the connection. Raises TimeoutError after a minute without data."""
        received = b""
        try:
            while data := self._socket.recv(65536):
                received += data
        except ConnectionResetError:
            pass
        return received

    def drip(self, data: bytes) -> bytes:
        """Send the data again and again until the proxy closes the connection."""
        self._socket.settimeout(0.02)
        while True:
            try:
                self._socket.sendall(data)
                received = self._socket.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                return b""
            self._socket.settimeout(60)
            return received + self.read_to_end()


GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def impatient(app: tuple[Command, int], home: dict[str, str]) -> Iterator[str]:
    """The address of a proxy with short limits in front of that web process."""
    limits = {"WORDLIGHT_PROXY_HEADER_SECONDS": "300ms", "WORDLIGHT_PROXY_IDLE_SECONDS": "300ms"}
    with proxy(app[1], **limits, **home) as address:
        yield address


@pytest.mark.parametrize("start", [b"", b"G", GET, GET + b"X-A: b"])
def test_slow_headers_close_the_connection(impatient: str, start: bytes) -> None:
    with RawClient(impatient) as client:
        client.send(start)
        assert b" 200 " not in client.read_to_end()


def test_dripping_headers_do_not_extend_the_time(impatient: str) -> None:
    with RawClient(impatient) as client:
        client.send(GET)
        assert b" 200 " not in client.drip(b"X-A: b\r\n")


@pytest.mark.parametrize("second", [b"", b"GET /hea"], ids=["silence", "half a request"])
def test_an_idle_connection_is_closed_after_an_answer(impatient: str, second: bytes) -> None:
    with RawClient(impatient) as client:
        client.send(GET + b"\r\n" + second)
        assert client.read_to_end().count(b" 200 ") == 1


def test_a_request_may_wait_longer_than_headers(impatient: str) -> None:
    answer = httpx.post(f"{impatient}/v1/captions", content=PICTURE, headers=JPEG | {"Prefer": "wait=1"}, timeout=60)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"


def test_oversized_headers_are_refused(impatient: str) -> None:
    with RawClient(impatient) as client:
        client.send(GET + b"X-A: " + b"a" * 64 * 1024 + b"\r\n\r\n")
        assert client.read_to_end().startswith(b"HTTP/1.1 431 ")
