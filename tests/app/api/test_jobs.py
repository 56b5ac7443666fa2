"""Jobs expire, and can be canceled, deleted and listed."""

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import tiny
from support.api import encode, problem
from support.captions import PICTURE, finished, post
from support.command import Command
from support.running import Running, follow, running

from jobs import keys
from jobs.connection import connect


def test_a_job_expires_without_a_worker(waiting: httpx.Client) -> None:
    job = post(waiting, headers={}, expires_in=1).json()
    assert job["status"] == "queued"
    assert [event.name for event in follow(waiting, job["links"]["events"])] == ["queued", "expired"]
    ended = waiting.get(job["links"]["self"]).json()
    assert (ended["status"], ended["captions"], ended["attempts"]) == ("expired", [], 0)


def test_an_expired_job_is_gone() -> None:
    with running(WORDLIGHT_RESULT_TTL_SECONDS="1") as service, httpx.Client(base_url=service.url, timeout=60) as client:
        job = post(client, headers={}, expires_in=1).json()
        follow(client, job["links"]["events"])
        with connect(service.redis_url) as redis:
            while redis.exists(keys.record(job["id"])):
                redis.wait(0, 50)  # blocks in the server until the record expires
        for path in ("", "/events", "/deliveries", "/captions/0/sheet.png"):
            problem(client.get(job["links"]["self"] + path), 410, "gone")
        assert client.get("/v1/captions").json() == {"jobs": [], "next": None}


def test_a_waiting_job_is_canceled_at_once(waiting: httpx.Client, idle: Running) -> None:
    job = post(waiting, headers={}).json()
    for _ in range(2):  # canceling again changes nothing
        canceled = waiting.post(job["links"]["cancel"])
        assert canceled.status_code == 200
        assert (canceled.json()["status"], canceled.json()["attempts"]) == ("canceled", 0)
    assert canceled.json() == waiting.get(job["links"]["self"]).json()
    assert [event.name for event in follow(waiting, job["links"]["events"])] == ["queued", "canceled"]
    with connect(idle.redis_url) as redis:
        assert redis.xlen(keys.STREAM) == 0


def test_a_finished_job_is_not_canceled(client: httpx.Client) -> None:
    job = finished(client)
    assert client.post(job["links"]["cancel"]).json() == job
    problem(client.post("/v1/captions/0/cancel"), 404, "not-found")


def stopped_while_running(client: httpx.Client, worker: Command, pictures: list[bytes]) -> list[dict[str, Any]]:
    """Submit jobs and stop the worker while the second runs. Tries again if that job ends too soon."""
    much = {"strategy": "sample", "num_captions": 20, "max_words": 100}
    for seed in range(100):
        os.kill(worker.process.pid, signal.SIGSTOP)
        # The worker claims the first job alone, then the others as one batch.
        jobs = [post(client, picture=picture, headers={}, **much, seed=seed).json() for picture in pictures]
        os.kill(worker.process.pid, signal.SIGCONT)
        with client.stream("GET", jobs[1]["links"]["events"]) as answer:
            assert "event: word" in answer.iter_lines()
        os.kill(worker.process.pid, signal.SIGSTOP)
        if client.get(jobs[1]["links"]["self"]).json()["status"] == "processing":
            return jobs
        os.kill(worker.process.pid, signal.SIGCONT)
    raise AssertionError("every job ended before the worker could be stopped")


@pytest.mark.slow
def test_a_running_job_is_canceled_without_its_batch(slow_captioner: Path) -> None:
    with running(slow_captioner) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        worker = service.workers[0]
        pictures = [encode(tiny.picture(top, "white"), "PNG") for top in ("red", "green", "blue")]
        _, unwanted, *mates = stopped_while_running(client, worker, [PICTURE, *pictures])
        assert client.post(unwanted["links"]["cancel"]).json()["status"] == "canceled"
        os.kill(worker.process.pid, signal.SIGCONT)
        worker.wait_for_line(f"job {unwanted['id']} was canceled, deleted or taken over")
        for mate in mates:
            ended = client.get(mate["links"]["self"], params={"wait": 60}).json()
            assert (ended["status"], ended["attempts"], len(ended["captions"])) == ("succeeded", 1, 20)
            words = [event for event in follow(client, mate["links"]["events"]) if event.name == "word"]
            assert len(words) == sum(len(caption["words"]) for caption in ended["captions"])
        assert client.get(unwanted["links"]["self"]).json()["captions"] == []
        assert [event.name for event in follow(client, unwanted["links"]["events"])][-1] == "canceled"
        # The worker takes other jobs, and stopped this one early: a result would have been discarded.
        assert finished(client, strategy="greedy", max_words=1)["attempts"] == 1
        assert not [line for line in worker.lines if "result discarded" in line and unwanted["id"] in line]


def test_deletion_leaves_nothing(tiny_captioner: Path) -> None:
    with running(tiny_captioner) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        kept = finished(client, max_words=3)
        job = finished(client)
        assert client.get(job["links"]["sheet"]).status_code == 200
        assert [one["id"] for one in client.get("/v1/captions").json()["jobs"]] == [job["id"], kept["id"]]
        deleted = client.delete(job["links"]["self"])
        assert (deleted.status_code, deleted.content) == (204, b"")
        with connect(service.redis_url) as redis:
            assert not [key for key in redis.scan_iter("*") if job["id"].encode() in key]
            values = b"".join(redis.dump(key) or b"" for key in redis.scan_iter("*"))
            assert job["id"].encode() not in values
        for path in ("", "/events", "/deliveries", "/captions/0/sheet.png", "/captions/0/words/0.png"):
            problem(client.get(job["links"]["self"] + path), 410, "gone")
        problem(client.post(job["links"]["cancel"]), 410, "gone")
        problem(client.delete(job["links"]["self"]), 410, "gone")
        assert [one["id"] for one in client.get("/v1/captions").json()["jobs"]] == [kept["id"]]
        assert not finished(client)["cached"]


def test_jobs_are_listed_in_pages_newest_first(waiting: httpx.Client) -> None:
    ids = [post(waiting, headers={}, max_words=n % 100 + 1).json()["id"] for n in range(107)]
    assert len(waiting.get("/v1/captions").json()["jobs"]) == 20
    pages, address = [], "/v1/captions?limit=50"
    while address:
        page = waiting.get(address).json()
        pages.append([job["id"] for job in page["jobs"]])
        address = page["next"]
    assert [len(page) for page in pages] == [50, 50, 7]
    listed = [job_id for page in pages for job_id in page]
    assert sorted(listed) == sorted(ids)
    assert [job_id[:12] for job_id in listed] == [job_id[:12] for job_id in ids[::-1]]  # the time, in ms


@pytest.mark.parametrize(
    ("field", "value"),
    [("cursor", "x"), ("cursor", ""), ("cursor", "F" * 36), ("limit", 0), ("limit", 101), ("limit", "all")],
)
def test_invalid_pages_are_refused(client: httpx.Client, field: str, value: str) -> None:
    body = problem(client.get("/v1/captions", params={field: value}), 422, "invalid-request")
    assert [error["field"] for error in body["errors"]] == [f"query.{field}"]
