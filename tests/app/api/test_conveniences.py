"""What clients may ask for besides a caption, of real processes: options, scores, the same again, and never mind."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import tiny
from support.api import encode, problem
from support.command import Command, Service
from support.running import Running, follow, running

from jobs import keys
from jobs.connection import connect

PICTURE = encode(tiny.picture("red", "green"), "PNG")
WAIT = {"Prefer": "wait=60"}


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def idle() -> Iterator[Running]:
    """A service whose jobs wait, for there is no worker."""
    with running() as service:
        yield service


@pytest.fixture
def waiting(idle: Running) -> Iterator[httpx.Client]:
    with connect(idle.redis_url) as redis:
        redis.flushall()
    with httpx.Client(base_url=idle.url, timeout=60) as http:
        yield http


def post(
    client: httpx.Client,
    path: str = "/v1/captions",
    picture: bytes = PICTURE,
    headers: dict[str, str] = WAIT,
    **fields: Any,
) -> httpx.Response:
    return client.post(path, files={"image": picture}, data=fields, headers=headers)


def finished(client: httpx.Client, path: str = "/v1/captions", picture: bytes = PICTURE, **fields: Any) -> Any:
    answer = post(client, path, picture, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "succeeded"
    return answer.json()


def texts(job: Any) -> list[str]:
    return [caption["text"] for caption in job["captions"]]


# Options


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 1),
        ({"strategy": "beam", "num_captions": 5}, 5),
        ({"strategy": "beam", "beam_size": 7, "num_captions": 1}, 1),
        ({"strategy": "greedy"}, 1),
        ({"strategy": "diverse", "num_captions": 2, "beam_size": 4}, 2),
        ({"strategy": "consensus", "beam_size": 20}, 1),
        ({"strategy": "diverse"}, 1),
        ({"strategy": "sample", "num_captions": 4, "temperature": 1.5, "top_k": 20, "top_p": 0.9}, 4),
    ],
)
def test_each_strategy_writes_as_many_captions_as_asked(
    client: httpx.Client, options: dict[str, Any], count: int
) -> None:
    job = finished(client, **options)
    assert len(job["captions"]) == count
    assert {name: job["options"][name] for name in options} == options
    if options.get("strategy") in (None, "beam"):
        assert len(set(texts(job))) == count


def test_a_seed_says_the_same_again_of_the_same_picture_and_one_is_drawn_and_told(client: httpx.Client) -> None:
    asked = {"strategy": "sample", "temperature": 3, "num_captions": 5}
    drawn = finished(client, **asked)
    client.delete(drawn["links"]["self"])  # not to be answered from what is known
    again = finished(client, **asked, seed=drawn["options"]["seed"])
    assert not again["cached"]
    assert again["captions"] == drawn["captions"]
    other = finished(client, **asked, seed=(drawn["options"]["seed"] + 1) % 2**32)
    assert texts(other) != texts(drawn)
    assert finished(client, **asked)["options"]["seed"] != drawn["options"]["seed"]


@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample", "diverse", "consensus"])
def test_a_prefix_begins_every_caption_and_is_not_counted(client: httpx.Client, strategy: str) -> None:
    job = finished(client, strategy=strategy, prefix="Zebras over a", max_words=2)
    for caption in job["captions"]:
        assert caption["text"].lower().startswith("zebras over a")
        assert 3 <= len(caption["words"]) <= 5
        assert [word["in_vocabulary"] for word in caption["words"]][:3] == [False, True, True]


def test_max_words_cuts(client: httpx.Client) -> None:
    assert {len(caption["words"]) for caption in finished(client, max_words=1)["captions"]} == {1}


def test_attention_can_be_left_out(client: httpx.Client) -> None:
    job = finished(client, attention="none")
    assert maps(job) == {(False, False)}
    assert job["links"]["sheet"] is None
    problem(client.get(f"{job['links']['self']}/captions/0/words/0.png"), 404, "no-heatmap")
    for asked in ({}, {"attention": "heatmap"}, {"attention": "both"}):
        drawn = finished(client, **asked)
        assert texts(drawn) == texts(job)
        assert maps(drawn) == {(asked.get("attention") == "both", True)}
        assert client.get(drawn["links"]["sheet"]).headers["content-type"] == "image/png"


def maps(job: Any) -> set[tuple[bool, bool]]:
    """Whether words have attention and a heatmap."""
    words = [word for caption in job["captions"] for word in caption["words"]]
    return {(word["attention"] is not None, word["heatmap"] is not None) for word in words}


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("strategy", {"strategy": "best"}),
        ("num_captions", {"num_captions": 0}),
        ("num_captions", {"num_captions": 21}),
        ("num_captions", {"num_captions": "many"}),
        ("num_captions", {"strategy": "greedy", "num_captions": 2}),
        ("beam_size", {"beam_size": 21}),
        ("beam_size", {"beam_size": 2, "num_captions": 3}),
        ("beam_size", {"strategy": "greedy", "beam_size": 2}),
        ("beam_size", {"strategy": "diverse", "num_captions": 2, "beam_size": 3}),
        ("beam_size", {"strategy": "consensus", "num_captions": 4, "beam_size": 3}),
        ("temperature", {"strategy": "sample", "temperature": 0}),
        ("temperature", {"strategy": "sample", "temperature": "nan"}),
        ("temperature", {"strategy": "sample", "temperature": "inf"}),
        ("temperature", {"temperature": 2}),
        ("top_k", {"strategy": "sample", "top_k": 0}),
        ("top_k", {"strategy": "beam", "top_k": 5}),
        ("top_p", {"strategy": "sample", "top_p": 0}),
        ("top_p", {"strategy": "sample", "top_p": 1.1}),
        ("top_p", {"strategy": "greedy", "top_p": 0.5}),
        ("seed", {"strategy": "sample", "seed": -1}),
        ("seed", {"strategy": "sample", "seed": 2**32}),
        ("seed", {"strategy": "beam", "seed": 1}),
        ("max_words", {"max_words": 0}),
        ("max_words", {"max_words": 101}),
        ("max_words", {"max_words": 1.5}),
        ("prefix", {"prefix": "..."}),
        ("prefix", {"prefix": "a" * 301}),
        ("attention", {"attention": "all"}),
        ("expires_in", {"expires_in": 0}),
        ("expires_in", {"expires_in": 10**9}),
        ("kind", {"kind": "caption"}),
        ("colour", {"colour": "red"}),
        ("image_url", {"image_url": "https://example.org/a.jpg"}),
        ("webhook_url", {"webhook_url": "https://example.org/hook"}),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_field(
    client: httpx.Client, field: str, options: dict[str, Any]
) -> None:
    in_a_form = problem(post(client, **options), 422, "invalid-request")
    in_the_query = problem(
        client.post("/v1/captions", params=options, content=PICTURE, headers={"Content-Type": "image/png"}),
        422,
        "invalid-request",
    )
    for body in (in_a_form, in_the_query):
        assert [error["field"] for error in body["errors"]] == [field]
        assert body["errors"][0]["message"] in body["detail"]


def test_all_that_is_wrong_is_told_at_once(client: httpx.Client) -> None:
    body = problem(post(client, max_words=0, top_k=5, colour="red"), 422, "invalid-request")
    assert {error["field"] for error in body["errors"]} == {"max_words", "top_k", "colour"}


def test_a_job_expires_where_there_is_no_worker(waiting: httpx.Client) -> None:
    job = post(waiting, headers={}, expires_in=1).json()
    assert job["status"] == "queued"
    assert [event.name for event in follow(waiting, job["links"]["events"])] == ["queued", "expired"]
    ended = waiting.get(job["links"]["self"]).json()
    assert (ended["status"], ended["captions"], ended["attempts"]) == ("expired", [], 0)


def test_what_is_kept_no_longer_is_gone() -> None:
    with running(WORDLIGHT_RESULT_TTL_SECONDS="1") as service, httpx.Client(base_url=service.url, timeout=60) as client:
        job = post(client, headers={}, expires_in=1).json()
        follow(client, job["links"]["events"])
        with connect(service.redis_url) as redis:
            while redis.exists(keys.record(job["id"])):
                redis.wait(0, 50)  # what waits is the server: the record expires by itself
        for path in ("", "/events", "/deliveries", "/captions/0/sheet.png"):
            problem(client.get(job["links"]["self"] + path), 410, "gone")
        assert client.get("/v1/captions").json() == {"jobs": [], "next": None}


# Scores


def test_a_score_is_that_of_the_same_caption_when_written(client: httpx.Client) -> None:
    for written in finished(client)["captions"]:
        (scored,) = finished(client, "/v1/scores", caption=written["text"])["captions"]
        assert scored["text"] == written["text"]
        assert scored["logprob"] == pytest.approx(written["logprob"], abs=1e-3)
        for one, other in zip(scored["words"], written["words"], strict=True):
            assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-3)
            assert one["heatmap"]["weights"] == pytest.approx(other["heatmap"]["weights"], abs=1e-3)


def test_words_that_are_not_known_are_marked_and_looked_at_all_the_same(client: httpx.Client) -> None:
    job = finished(client, "/v1/scores", caption="A zebra over a Green, please!")
    (caption,) = job["captions"]
    assert [(word["text"], word["in_vocabulary"]) for word in caption["words"]] == [
        ("a", True),
        ("zebra", False),
        ("over", True),
        ("a", True),
        ("green", True),
        ("please", False),
    ]
    for word in caption["words"]:
        assert sum(word["heatmap"]["weights"]) == pytest.approx(1, abs=1e-3)
    assert job["options"]["caption"] == "A zebra over a Green, please!"


def test_a_score_is_waited_for_unless_asked_otherwise(client: httpx.Client, waiting: httpx.Client) -> None:
    assert post(client, "/v1/scores", headers={}, caption="one red").status_code == 200
    answer = post(waiting, "/v1/scores", headers={"Prefer": "respond-async"}, caption="one red")
    assert answer.status_code == 202
    assert waiting.get(answer.headers["location"]).json()["status"] == "queued"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("caption", {}),
        ("caption", {"caption": ""}),
        ("caption", {"caption": "?!"}),
        ("caption", {"caption": "a" * 1001}),
        ("strategy", {"caption": "a dog", "strategy": "beam"}),
        ("attention", {"caption": "a dog", "attention": "some"}),
    ],
)
def test_a_score_of_what_cannot_be_is_refused(client: httpx.Client, field: str, fields: dict[str, str]) -> None:
    body = problem(post(client, "/v1/scores", **fields), 422, "invalid-request")
    assert [error["field"] for error in body["errors"]] == [field]


# The same again


def test_an_idempotency_key_makes_one_job_of_one_request(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "one"}
    first = post(client, headers=key)
    again = post(client, headers=key | WAIT)  # as after an answer that was lost
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == first.headers["location"]
    for other in (
        post(client, headers=key, max_words=3),
        post(client, headers=key, picture=encode(tiny.picture("red", "white"), "PNG")),
        post(client, "/v1/scores", headers=key, caption="a dog"),
    ):
        problem(other, 422, "idempotency-key-reused")
    assert post(client, headers={"Idempotency-Key": "two"}).json()["id"] != first.json()["id"]


def test_an_idempotency_key_of_a_batch_names_no_single_job(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "batch and single"}
    assert post(client, "/v1/batches", headers=key).status_code in (200, 202)
    problem(post(client, headers=key), 422, "idempotency-key-reused")


def test_twenty_at_once_with_one_key_are_one_job(waiting: httpx.Client, idle: Running) -> None:
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: post(waiting, headers={"Idempotency-Key": "burst"}), range(20)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    with connect(idle.redis_url) as redis:
        assert redis.xlen(keys.STREAM) == 1
    assert len(waiting.get("/v1/captions").json()["jobs"]) == 1


def test_the_same_pixels_in_another_file_are_answered_at_once(client: httpx.Client) -> None:
    image = tiny.picture("blue", "white", (90, 70))
    first = finished(client, picture=encode(image, "PNG"))
    assert (first["cached"], first["attempts"]) == (False, 1)
    again = post(client, picture=encode(image, "BMP"), headers={})  # not waited for
    assert again.status_code == 200
    job = again.json()
    assert (job["cached"], job["attempts"], job["captions"]) == (True, 0, first["captions"])
    assert job["id"] != first["id"]
    assert [event.name for event in follow(client, job["links"]["events"])] == ["queued", "succeeded"]
    assert client.get(job["links"]["sheet"]).status_code == 200
    for options in ({"max_words": 19}, {"attention": "none"}, {"strategy": "greedy"}):
        assert not finished(client, picture=encode(image, "PNG"), **options)["cached"]


def test_twins_in_flight_share_one_run_and_ends_without_result_are_not_remembered(tiny_captioner: Path) -> None:
    with running(tiny_captioner) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        service.workers.pop().end()  # it has told which captioner is at work here
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


# Never mind


def test_a_waiting_job_is_canceled_at_once_and_never_run(waiting: httpx.Client, idle: Running) -> None:
    job = post(waiting, headers={}).json()
    for _ in range(2):  # twice is as good as once
        canceled = waiting.post(job["links"]["cancel"])
        assert canceled.status_code == 200
        assert (canceled.json()["status"], canceled.json()["attempts"]) == ("canceled", 0)
    assert canceled.json() == waiting.get(job["links"]["self"]).json()
    assert [event.name for event in follow(waiting, job["links"]["events"])] == ["queued", "canceled"]
    with connect(idle.redis_url) as redis:
        assert redis.xlen(keys.STREAM) == 0


def test_a_job_that_is_over_is_not_canceled(client: httpx.Client) -> None:
    job = finished(client)
    assert client.post(job["links"]["cancel"]).json() == job
    problem(client.post("/v1/captions/0/cancel"), 404, "not-found")


def caught_in_mid_sentence(client: httpx.Client, worker: Command, pictures: list[bytes]) -> list[dict[str, Any]]:
    """Jobs of these pictures, the second of which is running; the worker stands still. It may take some tries."""
    much = {"strategy": "sample", "num_captions": 20, "max_words": 100}
    for seed in range(100):
        os.kill(worker.process.pid, signal.SIGSTOP)
        # The first will be in the worker's hands alone; the others, which come meanwhile, as one batch.
        jobs = [post(client, picture=picture, headers={}, **much, seed=seed).json() for picture in pictures]
        os.kill(worker.process.pid, signal.SIGCONT)
        with client.stream("GET", jobs[1]["links"]["events"]) as answer:
            assert "event: word" in answer.iter_lines()
        os.kill(worker.process.pid, signal.SIGSTOP)
        if client.get(jobs[1]["links"]["self"]).json()["status"] == "processing":
            return jobs
        os.kill(worker.process.pid, signal.SIGCONT)
    raise AssertionError("the worker is too fast for us")


@pytest.mark.slow
def test_a_running_job_is_given_up_between_two_words_and_its_mates_are_not(slow_captioner: Path) -> None:
    with running(slow_captioner) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        worker = service.workers[0]
        pictures = [encode(tiny.picture(top, "white"), "PNG") for top in ("red", "green", "blue")]
        _, unwanted, *mates = caught_in_mid_sentence(client, worker, [PICTURE, *pictures])
        assert client.post(unwanted["links"]["cancel"]).json()["status"] == "canceled"
        os.kill(worker.process.pid, signal.SIGCONT)
        worker.wait_for_line(f"job {unwanted['id']} was canceled, deleted or taken over")
        for mate in mates:
            ended = client.get(mate["links"]["self"], params={"wait": 60}).json()
            assert (ended["status"], ended["attempts"], len(ended["captions"])) == ("succeeded", 1, 20)
            told = [event for event in follow(client, mate["links"]["events"]) if event.name == "word"]
            assert len(told) == sum(len(caption["words"]) for caption in ended["captions"])
        assert client.get(unwanted["links"]["self"]).json()["captions"] == []
        assert [event.name for event in follow(client, unwanted["links"]["events"])][-1] == "canceled"
        # The worker is free for others, and has not written this one to its end: its result would have been refused.
        assert finished(client, strategy="greedy", max_words=1)["attempts"] == 1
        assert not [line for line in worker.lines if "result discarded" in line and unwanted["id"] in line]


def test_of_a_deleted_job_nothing_is_left(tiny_captioner: Path) -> None:
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


def test_a_list_is_paged_the_newest_first(waiting: httpx.Client) -> None:
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
def test_a_page_that_cannot_be_is_refused(client: httpx.Client, field: str, value: str) -> None:
    body = problem(client.get("/v1/captions", params={field: value}), 422, "invalid-request")
    assert [error["field"] for error in body["errors"]] == [f"query.{field}"]
