"""Idempotency keys, and results from the cache."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from support import tiny
from support.api import encode, problem
from support.captions import WAIT, finished, post
from support.running import Running, follow, running

from jobs import keys
from jobs.connection import connect


def test_an_idempotency_key_creates_one_job(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "one"}
    first = post(client, headers=key)
    again = post(client, headers=key | WAIT)  # as if the response had been lost
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == first.headers["location"]
    for other in (
        post(client, headers=key, max_words=3),
        post(client, headers=key, picture=encode(tiny.picture("red", "white"), "PNG")),
        post(client, "/v1/scores", headers=key, caption="a dog"),
    ):
        problem(other, 422, "idempotency-key-reused")
    assert post(client, headers={"Idempotency-Key": "two"}).json()["id"] != first.json()["id"]


def test_an_idempotency_key_of_a_batch_is_refused_for_a_job(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "batch and single"}
    assert post(client, "/v1/batches", headers=key).status_code in (200, 202)
    problem(post(client, headers=key), 422, "idempotency-key-reused")


def test_concurrent_requests_with_one_key_create_one_job(waiting: httpx.Client, idle: Running) -> None:
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: post(waiting, headers={"Idempotency-Key": "burst"}), range(20)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    with connect(idle.redis_url) as redis:
        assert redis.xlen(keys.STREAM) == 1
    assert len(waiting.get("/v1/captions").json()["jobs"]) == 1


def test_identical_pixels_are_answered_from_the_cache(client: httpx.Client) -> None:
    image = tiny.picture("blue", "white", (90, 70))
    first = finished(client, picture=encode(image, "PNG"))
    assert (first["cached"], first["attempts"]) == (False, 1)
    again = post(client, picture=encode(image, "BMP"), headers={})  # without Prefer: wait
    assert again.status_code == 200
    job = again.json()
    assert (job["cached"], job["attempts"], job["captions"]) == (True, 0, first["captions"])
    assert job["id"] != first["id"]
    assert [event.name for event in follow(client, job["links"]["events"])] == ["queued", "succeeded"]
    assert client.get(job["links"]["sheet"]).status_code == 200
    for options in ({"max_words": 19}, {"attention": "none"}, {"strategy": "greedy"}):
        assert not finished(client, picture=encode(image, "PNG"), **options)["cached"]


def test_identical_jobs_share_one_run_and_failures_are_not_cached(tiny_captioner: Path) -> None:
    with running(tiny_captioner) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        service.workers.pop().end()  # it has published its captioner
        for end in ("cancel", "expire"):
            job = post(client, headers={}, **({"expires_in": 1} if end == "expire" else {})).json()
            if end == "cancel":
                client.post(job["links"]["cancel"])
            follow(client, job["links"]["events"])
        jobs = [post(client, headers={}).json() for _ in range(5)]
        assert {job["status"] for job in jobs} == {"queued"}
        worker = service.start_worker(tiny_captioner)
        ended = [client.get(job["links"]["self"], params={"wait": 60}).json() for job in jobs]
        assert [(job["status"], job["cached"], job["attempts"]) for job in ended] == [
            ("succeeded", False, 1),
            *[("succeeded", True, 0)] * 4,
        ]
        assert len({str(job["captions"]) for job in ended}) == 1
        assert worker.end() == 0
        assert len([line for line in worker.lines if "finished the job" in line]) == 1
