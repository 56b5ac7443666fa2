"""The routes of batches: a real service with the tiny captioner, and web processes without a worker."""

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image
from redis import Redis
from support import tiny
from support.api import bearer, encode, make_key, problem, start_api
from support.command import Service

from app.access.api_keys import Scope
from jobs import keys

RED, BLUE = encode(tiny.picture("red", "green"), "PNG"), encode(tiny.picture("blue", "white"), "PNG")
ZIP = {"Content-Type": "application/zip"}
WAIT = {"Prefer": "wait=60"}


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90) as http:
        yield http


@pytest.fixture
def api(redis_url: str) -> Iterator[httpx.Client]:
    """A web process with room for three jobs, and no worker."""
    command, url = start_api(REDIS_URL=redis_url, WORDLIGHT_MAX_JOBS="3")
    with httpx.Client(base_url=url, timeout=60) as http:
        yield http
    command.end()
    assert not [line for line in command.lines if "Traceback" in line]


def new_picture() -> bytes:
    """A picture that is not in the cache."""
    return encode(Image.frombytes("RGB", (4, 4), (uuid4().bytes * 3)), "PNG")


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return file.getvalue()


def images(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", file) for file in files]


def states(batch: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(job["name"], job["status"]) for job in batch["jobs"]]


def test_each_picture_becomes_a_job_in_order(client: httpx.Client) -> None:
    answer = client.post("/v1/batches", files=images(("a.png", RED), ("b.png", BLUE), ("c.png", RED)), headers=WAIT)
    assert answer.status_code == 200, answer.text
    assert answer.headers["preference-applied"] == "wait=60"
    batch = answer.json()
    assert answer.headers["location"] == batch["links"]["self"] == f"/v1/batches/{batch['id']}"
    assert states(batch) == [(f"{name}.png", "succeeded") for name in "abc"]
    assert batch["done"]
    assert batch["counts"]["succeeded"] == 3
    texts = [job["text"] for job in batch["jobs"]]
    assert texts[0] == texts[2] != texts[1]
    for job in batch["jobs"]:
        whole = client.get(f"/v1/captions/{job['id']}").json()
        assert (whole["batch"], whole["name"]) == (batch["id"], job["name"])
        assert whole["captions"][0]["text"] == job["text"]
    listed = [job["id"] for job in client.get("/v1/captions", params={"limit": 100}).json()["jobs"]]
    assert {job["id"] for job in batch["jobs"]} <= set(listed)
    assert client.get(answer.headers["location"]).json() == batch


def test_an_archive_can_be_the_body_or_a_file(client: httpx.Client) -> None:
    archive = zipped(a_png=RED, b_png=BLUE)
    body = client.post("/v1/batches?attention=none&max_words=5", content=archive, headers=ZIP | WAIT).json()
    assert states(body) == [("a.png", "succeeded"), ("b.png", "succeeded")]
    files = images(("first.png", RED), ("two.zip", archive), ("archive.jpg", archive), ("last.png", BLUE))
    form = client.post("/v1/batches", files=files, data={"attention": "none", "max_words": "5"}, headers=WAIT).json()
    assert [name for name, _ in states(form)] == ["first.png", "a.png", "b.png", "a.png", "b.png", "last.png"]
    for job in (*body["jobs"], *form["jobs"]):
        whole = client.get(f"/v1/captions/{job['id']}").json()
        assert (whole["options"]["attention"], whole["options"]["max_words"]) == ("none", 5)
        assert whole["captions"][0]["words"][0]["heatmap"] is None


def test_a_bad_file_becomes_a_failed_job(client: httpx.Client) -> None:
    damaged = zipfile.ZipFile(archive := io.BytesIO(), "w")
    with damaged:
        damaged.writestr("good.png", RED)
        damaged.writestr("damaged.png", BLUE)
    broken = archive.getvalue().replace(BLUE, BLUE[:-1] + b"?")
    files = images(
        ("a.png", RED),
        ("notes.txt", b"hello"),
        ("cut.png", RED[:60]),
        ("empty.png", b""),
        ("../../evil\u202e.png", bytes(20 * 1024 * 1024 + 1)),
        ("x.zip", broken),
    )
    batch = client.post("/v1/batches", files=files, headers=WAIT).json()
    kinds = [(job["name"], job["error"] and job["error"]["type"].rpartition(":")[2]) for job in batch["jobs"]]
    assert kinds == [
        ("a.png", None),
        ("notes.txt", "unsupported-format"),
        ("cut.png", "undecodable-image"),
        ("empty.png", "unsupported-format"),
        ("evil�.png", "undecodable-image"),
        ("good.png", None),
        ("damaged.png", "undecodable-image"),
    ]
    assert "larger than 20,971,520 bytes" in batch["jobs"][4]["error"]["detail"]
    assert batch["counts"] | {"succeeded": 2, "failed": 5} == batch["counts"]
    failed = client.get(f"/v1/captions/{batch['jobs'][1]['id']}").json()
    assert (failed["status"], failed["name"]) == ("failed", "notes.txt")


def test_a_batch_of_a_hundred_pictures(client: httpx.Client) -> None:
    archive = zipped(**{f"{number}_png": new_picture() for number in range(100)})
    answer = client.post("/v1/batches?num_captions=1&max_words=3", content=archive, headers=ZIP)
    assert answer.status_code == 202
    batch = answer.json()
    assert sum(batch["counts"].values()) == len(batch["jobs"]) == 100
    while not batch["done"]:
        batch = client.get(f"/v1/batches/{batch['id']}", params={"wait": 60}).json()
    assert states(batch) == [(f"{number}.png", "succeeded") for number in range(100)]


@pytest.mark.parametrize("count", [101, 102, 150])
@pytest.mark.parametrize("how", ["form", "archive", "both"])
def test_too_many_files_refuse_the_whole_batch(client: httpx.Client, count: int, how: str) -> None:
    before = client.get("/v1/captions", params={"limit": 1}).json()["jobs"]
    outside = {"form": count, "archive": 0, "both": 50}[how]
    archive = zipped(**{f"{number}_png": RED for number in range(count - outside)})
    files = images(*((f"{number}.png", RED) for number in range(outside)))
    if how != "form":
        files += images(("rest.zip", archive))
    answer = client.post("/v1/batches", files=files)
    problem(answer, 422, "too-many-files" if how == "form" else "archive-refused")
    assert client.get("/v1/captions", params={"limit": 1}).json()["jobs"] == before


@pytest.mark.parametrize("body", [b"", b"hello", RED, b"PK\3\4" + bytes(40), zipped()])
def test_a_broken_or_empty_archive_refuses_the_whole_batch(client: httpx.Client, body: bytes) -> None:
    problem(client.post("/v1/batches", content=body, headers=ZIP), 422, "archive-refused")
    if body.startswith(b"PK"):
        problem(client.post("/v1/batches", files=images(("a.png", RED), ("x", body))), 422, "archive-refused")


def test_invalid_options_are_refused(client: httpx.Client) -> None:
    answer = client.post("/v1/batches?beam_size=0", content=zipped(a=RED), headers=ZIP)
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == "beam_size"
    answer = client.post("/v1/batches", files=images(("a", RED)), data={"image_url": "http://localhost/"})
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == "image_url"


def test_an_unknown_batch_is_not_found(client: httpx.Client) -> None:
    batch = client.post("/v1/batches", files=images(("a", RED)), headers=WAIT).json()
    for path in ("0", "x" * 40, batch["jobs"][0]["id"]):
        kind = (410, "gone") if path == batch["jobs"][0]["id"] else (404, "not-found")
        problem(client.get(f"/v1/batches/{path}"), *kind)
        problem(client.post(f"/v1/batches/{path}/cancel"), *kind)
        problem(client.delete(f"/v1/batches/{path}"), *kind)
    assert client.delete(f"/v1/batches/{batch['id']}").status_code == 204
    problem(client.get(f"/v1/batches/{batch['id']}"), 410, "gone")
    problem(client.delete(f"/v1/batches/{batch['id']}"), 410, "gone")
    problem(client.get(f"/v1/captions/{batch['jobs'][0]['id']}"), 410, "gone")


def test_a_batch_without_jobs_is_gone(api: httpx.Client) -> None:
    batch = api.post("/v1/batches", files=images(("a", RED), ("b", BLUE))).json()
    first, second = (job["id"] for job in batch["jobs"])
    assert api.delete(f"/v1/captions/{first}").status_code == 204
    assert [job["id"] for job in api.get(f"/v1/batches/{batch['id']}").json()["jobs"]] == [second]
    assert api.delete(f"/v1/captions/{second}").status_code == 204
    problem(api.get(f"/v1/batches/{batch['id']}"), 410, "gone")


def test_canceling_a_batch_cancels_its_unfinished_jobs(api: httpx.Client, redis: Redis) -> None:
    answer = api.post(
        "/v1/batches", files=images(("a", RED), ("b", BLUE), ("c", b"no picture")), headers={"Prefer": "wait=0"}
    )
    assert answer.status_code == 202
    batch = answer.json()
    assert states(batch) == [("a", "queued"), ("b", "queued"), ("c", "failed")]
    assert not batch["done"]
    for _ in range(2):
        canceled = api.post(batch["links"]["cancel"]).json()
        assert states(canceled) == [("a", "canceled"), ("b", "canceled"), ("c", "failed")]
        assert canceled["done"]
    assert redis.xlen(keys.STREAM) == 0


def test_identical_pictures_in_a_batch_run_once(api: httpx.Client, redis: Redis) -> None:
    redis.set(f"{keys.TAG}model", "some version")  # results are shared only after a worker has published its captioner
    batch = api.post("/v1/batches", files=images(("a", RED), ("b", RED), ("c", RED))).json()
    assert batch["counts"]["queued"] == 3
    assert redis.xlen(keys.STREAM) == 1


def test_a_wait_that_times_out_returns_the_batch_as_it_is(api: httpx.Client) -> None:
    batch = api.post("/v1/batches", files=images(("a", RED)), headers={"Prefer": "wait=1"})
    assert (batch.status_code, batch.headers["preference-applied"]) == (202, "wait=1")
    again = api.get(batch.headers["location"], params={"wait": 1})
    assert (again.status_code, again.json()) == (200, batch.json())
    problem(api.get(batch.headers["location"], params={"wait": -1}), 422, "invalid-request")


def test_a_queue_without_room_for_all_jobs_accepts_none(api: httpx.Client, redis: Redis) -> None:
    four = images(*((f"{number}", new_picture()) for number in range(4)))
    answer = api.post("/v1/batches", files=four)
    problem(answer, 503, "queue-full")
    assert answer.headers["retry-after"]
    assert not redis.exists(keys.ACTIVE, keys.STREAM, keys.owned(""))
    assert api.post("/v1/batches", files=four[:3]).status_code == 202


def test_an_idempotency_key_repeats_a_batch_and_refuses_another(api: httpx.Client, redis: Redis) -> None:
    files, headers = images(("a", RED), ("b", BLUE)), {"Idempotency-Key": "k"}
    first = api.post("/v1/batches", files=files, headers=headers).json()
    assert api.post("/v1/batches", files=files, headers=headers).json() == first
    for other in (files[:1], files[::-1], [*files, *files]):
        problem(api.post("/v1/batches", files=other, headers=headers), 422, "idempotency-key-reused")
    answer = api.post("/v1/batches", files=files, data={"max_words": "5"}, headers=headers)
    problem(answer, 422, "idempotency-key-reused")
    assert redis.zcard(keys.ACTIVE) == 2


def test_an_idempotency_key_distinguishes_batches_and_jobs(api: httpx.Client) -> None:
    for paths in (("/v1/batches", "/v1/captions"), ("/v1/captions", "/v1/batches")):
        headers = {"Idempotency-Key": paths[0]}
        assert api.post(paths[0], files={"image": ("a", RED)}, headers=headers).status_code == 202
        problem(api.post(paths[1], files={"image": ("a", RED)}, headers=headers), 422, "idempotency-key-reused")


def test_concurrent_identical_batches_are_one(api: httpx.Client, redis: Redis) -> None:
    files, headers = images(("a", RED), ("b", BLUE), ("c", b"?")), {"Idempotency-Key": "at once"}
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: api.post("/v1/batches", files=files, headers=headers), range(6)))
    assert Counter(answer.status_code for answer in answers) == {202: 6}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert redis.zcard(keys.ACTIVE) == 2
    assert redis.zcard(keys.owned("")) == 3


def test_every_picture_counts_towards_the_limit_and_keys_are_isolated(redis_url: str) -> None:
    command, url = start_api(REDIS_URL=redis_url, WORDLIGHT_REQUIRE_KEYS="true")
    _, secret = make_key(redis_url, "limited", (Scope.READ, Scope.WRITE), "5/day")
    _, other = make_key(redis_url, "other")
    archive = zipped(a=RED, b=BLUE)
    with httpx.Client(base_url=url, timeout=60, headers=bearer(secret)) as client:
        batch = client.post("/v1/batches", content=archive, headers=ZIP).json()
        assert client.post("/v1/batches", content=archive, headers=ZIP).status_code == 202
        assert client.get("/v1/captions").json()["jobs"]
        answer = client.post("/v1/batches", content=archive, headers=ZIP)
        problem(answer, 429, "rate-limited")
        assert answer.headers["retry-after"]
        assert client.post("/v1/batches", files=images(("a", RED))).status_code == 202
        problem(client.post("/v1/batches", files=images(("a", RED))), 429, "rate-limited")
        for method, path in (("GET", ""), ("POST", "/cancel"), ("DELETE", "")):
            answer = client.request(method, f"/v1/batches/{batch['id']}{path}", headers=bearer(other))
            problem(answer, 404, "not-found")
        assert client.get(f"/v1/batches/{batch['id']}").status_code == 200
    command.end()
