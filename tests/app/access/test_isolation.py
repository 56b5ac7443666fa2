"""Isolation of two keys on one service: neither sees, follows, changes or slows the other's jobs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support import tiny
from support.api import bearer, encode, make_key, problem
from support.running import Running, follow, running

PICTURE = encode(tiny.picture("red", "green"), "PNG")


@pytest.fixture(scope="module")
def keyed(tiny_captioner: Path) -> Iterator[Running]:
    """A service that requires keys, with room for three jobs."""
    with running(tiny_captioner, WORDLIGHT_REQUIRE_KEYS="true", WORDLIGHT_MAX_JOBS="3") as service:
        yield service


def client_with_a_key(keyed: Running) -> httpx.Client:
    _, secret = make_key(keyed.redis_url, uuid4().hex)
    return httpx.Client(base_url=keyed.url, timeout=60, headers=bearer(secret))


@pytest.fixture
def anna(keyed: Running) -> Iterator[httpx.Client]:
    with client_with_a_key(keyed) as http:
        yield http


@pytest.fixture
def ben(keyed: Running) -> Iterator[httpx.Client]:
    with client_with_a_key(keyed) as http:
        yield http


def captioned(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/captions", files={"image": PICTURE}, data=fields, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


def test_resources_of_another_key_are_not_found(anna: httpx.Client, ben: httpx.Client) -> None:
    job = captioned(anna)
    batch = anna.post("/v1/batches", files={"images": PICTURE}, headers={"Prefer": "wait=60"}).json()
    home, batch_home = job["links"]["self"], batch["links"]["self"]
    events = job["links"]["events"].partition("?")[0]
    paths = [
        ("GET", home),
        ("GET", f"{home}?wait=1"),
        ("GET", events),
        ("GET", f"{home}/deliveries"),
        ("GET", f"{home}/captions/0/sheet.png"),
        ("GET", f"{home}/captions/0/words/0.png"),
        ("POST", f"{home}/cancel"),
        ("DELETE", home),
        ("GET", batch_home),
        ("POST", f"{batch_home}/cancel"),
        ("DELETE", batch_home),
    ]
    for method, path in paths:
        problem(ben.request(method, path), 404, "not-found")
    assert ben.get("/v1/captions").json()["jobs"] == []
    cursor = ben.get("/v1/captions", params={"cursor": "f" * 36}).json()
    assert cursor == {"jobs": [], "next": None}
    # None of these requests changed anything.
    assert anna.get(home).json() == job
    assert anna.get(batch_home).json() == batch
    assert len(anna.get("/v1/captions").json()["jobs"]) == 2
    # Only the owner gets 410 Gone.
    assert anna.delete(home).status_code == 204
    problem(anna.get(home), 410, "gone")
    problem(ben.get(home), 404, "not-found")


def test_keys_do_not_share_cached_results_or_idempotency_keys(anna: httpx.Client, ben: httpx.Client) -> None:
    first = captioned(anna)
    assert not captioned(ben)["cached"]
    assert captioned(anna)["cached"]
    key = {"Idempotency-Key": "one"}
    ids = {
        client.post("/v1/captions", files={"image": PICTURE}, headers=key).json()["id"] for client in (anna, ben, anna)
    }
    assert len(ids) == 2
    assert first["id"] not in ids


def test_a_ticket_gives_access_to_the_events_of_its_job_only(keyed: Running, anna: httpx.Client) -> None:
    job, other = captioned(anna), captioned(anna, max_words=3)
    home, (address, _, ticket) = job["links"]["self"], job["links"]["events"].partition("?")
    with httpx.Client(base_url=keyed.url, timeout=60) as anonymous:
        assert [event.name for event in follow(anonymous, f"{address}?{ticket}")][-1] == "succeeded"
        for method, path in (
            ("GET", address),
            ("GET", f"{address}?ticket={'0' * 32}"),
            ("GET", f"{other['links']['self']}/events?{ticket}"),
            ("GET", f"{home}?{ticket}"),
            ("POST", f"{home}/cancel?{ticket}"),
            ("DELETE", f"{home}?{ticket}"),
            ("GET", f"{home}/captions/0/sheet.png?{ticket}"),
            ("GET", f"/v1/captions?{ticket}"),
            ("POST", f"/v1/captions?{ticket}"),
        ):
            problem(anonymous.request(method, path), 401, "unauthorized")
        anna.delete(home)
        assert anonymous.get(f"{address}?{ticket}").status_code in (404, 410)


def test_a_rate_limit_is_429_and_a_full_queue_503(keyed: Running, anna: httpx.Client, tiny_captioner: Path) -> None:
    limited = bearer(make_key(keyed.redis_url, "limited", limit="2/hour")[1])
    with httpx.Client(base_url=keyed.url, timeout=60, headers=limited) as client:
        for _ in range(2):
            captioned(client)
        over = client.post("/v1/captions", files={"image": PICTURE})
        problem(over, 429, "rate-limited")
        assert 0 < int(over.headers["retry-after"]) <= 3600
        assert over.headers["ratelimit-policy"]
        captioned(anna)  # has another limit
    keyed.workers.pop().end()
    for number in range(3):
        answer = anna.post("/v1/captions", files={"image": PICTURE}, data={"max_words": number + 50})
        assert answer.status_code == 202
    full = anna.post("/v1/captions", files={"image": PICTURE}, data={"max_words": 60})
    problem(full, 503, "queue-full")
    assert int(full.headers["retry-after"]) > 0
    assert "ratelimit" not in full.headers
    keyed.start_worker(tiny_captioner)
    for job in anna.get("/v1/captions").json()["jobs"]:  # until the queue has room
        assert anna.get(f"/v1/captions/{job['id']}", params={"wait": 60}).json()["status"] == "succeeded"
    captioned(anna, max_words=60)
