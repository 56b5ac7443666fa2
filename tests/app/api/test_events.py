"""Server-sent events of a job: every word once and in order, across lost connections and dying workers."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page
from support import tiny
from support.api import encode, problem
from support.command import Service
from support.running import Event, follow, read_events, read_some, running

PICTURE = encode(tiny.picture("red", "green"), "PNG")


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as http:
        yield http


def submit(client: httpx.Client, **options: Any) -> dict[str, Any]:
    answer = client.post("/v1/captions", files={"image": PICTURE}, data=options)
    assert answer.status_code in (200, 202), answer.text
    job: dict[str, Any] = answer.json()
    return job


def words_of(events: list[Event], caption: int = 0, attempt: int = 1) -> list[dict[str, Any]]:
    """The words of a caption from its events. Checks that they are in order."""
    words = [
        event.data
        for event in events
        if event.name == "word" and (event.data["caption"], event.data["attempt"]) == (caption, attempt)
    ]
    assert [word["position"] for word in words] == list(range(len(words)))
    return [word["word"] for word in words]


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "greedy"},
        {"strategy": "greedy", "prefix": "one red"},
        {"strategy": "sample", "num_captions": 3, "seed": 1},
        {"strategy": "sample", "seed": 2, "attention": "none"},
    ],
)
def test_every_word_is_sent_once_and_in_order(client: httpx.Client, options: dict[str, Any]) -> None:
    job = submit(client, max_words=13, **options)  # options of no other test: not in the cache
    events = follow(client, job["links"]["events"])
    assert [event.name for event in events if event.name != "word"] == ["queued", "processing", "succeeded"]
    assert events[-1].name == "succeeded"
    captions = client.get(job["links"]["self"]).json()["captions"]
    assert len(captions) == options.get("num_captions", 1)
    received = [words_of(events, number) for number in range(len(captions))]
    for caption, words in zip(captions, received, strict=True):
        assert words == caption["words"]
        assert all((word["heatmap"] is None) == (options.get("attention") == "none") for word in words)


@pytest.mark.parametrize("strategy", ["beam", "consensus", "diverse"])
def test_certain_words_of_a_search_are_sent_before_its_end(slow_captioner: Path, strategy: str) -> None:
    with running() as service, httpx.Client(base_url=service.url, timeout=60) as client:
        job = submit(client, strategy=strategy, num_captions=3, max_words=40)
        with client.stream("GET", job["links"]["events"]) as answer:
            events = read_events(answer.iter_lines())
            seen = [next(events)]  # the job has a subscriber now
            service.start_worker(slow_captioner)
            seen += list(events)
        assert seen == follow(client, job["links"]["events"])
        captions = client.get(job["links"]["self"]).json()["captions"]
        words = words_of(seen)
        assert words == captions[0]["words"][: len(words)]
        assert [event.name for event in seen] == ["queued", "processing", *["word"] * len(words), "succeeded"]
        assert bool(words) == (strategy != "diverse")


def test_a_search_without_followers_sends_no_early_words(client: httpx.Client) -> None:
    job = submit(client, max_words=7)
    client.get(job["links"]["self"], params={"wait": 60})
    assert [event.name for event in follow(client, job["links"]["events"])] == ["queued", "processing", "succeeded"]


def test_events_resume_at_any_point(client: httpx.Client) -> None:
    address = submit(client, strategy="sample", seed=3, num_captions=2)["links"]["events"]
    live: list[Event] = []
    while not live or live[-1].name != "succeeded":  # disconnect after each event while the job runs
        live += read_some(client, address, 1, live[-1].id if live else "")
    events = follow(client, address)
    assert live == events
    assert len({event.id for event in events}) == len(events)
    for number, event in enumerate(events[:-1], 1):
        assert follow(client, address, event.id) == events[number:]
    # EventSource does not reconnect after a 204.
    assert client.get(address, headers={"Last-Event-ID": events[-1].id}).status_code == 204


def test_a_disconnect_during_events_leaves_no_error(slow_captioner: Path) -> None:
    # At its end, running() checks that there are no tracebacks in the log.
    with running(slow_captioner) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        job = submit(client, strategy="sample", num_captions=10, seed=1)
        follow(client, job["links"]["events"])
        for count in range(1, 31):
            read_some(client, job["links"]["events"], count)
        assert follow(client, job["links"]["events"])[-1].name == "succeeded"


@pytest.mark.parametrize("last", ["nonsense", "0", "-1", "99999999999999999999-0"])
def test_an_unknown_event_id_starts_from_the_beginning(client: httpx.Client, last: str) -> None:
    address = submit(client, strategy="greedy")["links"]["events"]
    events = follow(client, address)
    assert follow(client, address, last) == events


@pytest.mark.browser
def test_event_source_in_a_browser_stops_at_the_end(page: Page, service: Service, client: httpx.Client) -> None:
    page.goto(service.url)
    requested: list[str] = []
    # Only these: the browser may request the icon at any time.
    page.on("request", lambda request: request.url.endswith("/events") and requested.append(request.url))
    job = submit(client, strategy="sample", seed=4)
    # Nothing closes the EventSource: it reconnects after the end of the stream, and the 204 stops it.
    received = page.evaluate(
        """address => new Promise((resolve) => {
            const received = [], source = new EventSource(address);
            for (const name of ["queued", "processing", "word", "succeeded"])
                source.addEventListener(name, (event) => received.push([name, event.lastEventId]));
            source.onerror = () => source.readyState === EventSource.CLOSED && resolve(received);
        })""",
        job["links"]["events"],
    )
    assert received == [[event.name, event.id] for event in follow(client, job["links"]["events"])]
    assert [address.removeprefix(service.url) for address in requested] == [job["links"]["events"]] * 2


@pytest.mark.slow  # a keep-alive comes every 5 s
def test_a_waiting_job_sends_keep_alives() -> None:
    with running() as service, httpx.Client(base_url=service.url, timeout=60) as client:
        job = submit(client)
        with client.stream("GET", job["links"]["events"]) as answer:
            comments = (line for line in answer.iter_lines() if line.startswith(":"))
            assert next(comments) == ": ping"


def test_deletion_and_expiry_end_the_events() -> None:
    with running() as service, httpx.Client(base_url=service.url, timeout=60) as client:
        job = submit(client)
        with client.stream("GET", job["links"]["events"]) as answer:
            lines = answer.iter_lines()
            assert next(read_events(lines)).name == "queued"
            assert client.delete(job["links"]["self"]).status_code == 204
            assert not list(read_events(lines)), "the stream ends"
        problem(client.get(job["links"]["events"]), 410, "gone")
        brief = submit(client, expires_in=1)
        assert [event.name for event in follow(client, brief["links"]["events"])] == ["queued", "expired"]


@pytest.mark.slow
def test_words_are_sent_again_after_a_worker_dies(slow_captioner: Path) -> None:
    with running(slow_captioner) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        victim = service.workers[0]
        for seed in range(100):  # until a job is stopped while it runs
            job = submit(client, strategy="sample", num_captions=20, max_words=100, seed=seed)
            with client.stream("GET", job["links"]["events"]) as answer:
                events = read_events(answer.iter_lines())
                seen = [next(events) for _ in range(5)]
                os.kill(victim.process.pid, signal.SIGSTOP)
                if client.get(job["links"]["self"]).json()["status"] == "processing":
                    victim.end(signal.SIGKILL)
                    service.start_worker(slow_captioner)
                    seen += list(events)
                    break
            os.kill(victim.process.pid, signal.SIGCONT)
        assert [event.data["attempt"] for event in seen if event.name == "processing"] == [1, 2]
        captions = client.get(job["links"]["self"]).json()["captions"]
        for number, caption in enumerate(captions):
            assert words_of(seen, number, attempt=2) == caption["words"]
            # With the same seed, the dead worker's words are a prefix of the caption.
            first = words_of(seen, number, attempt=1)
            assert [word["text"] for word in first] == [word["text"] for word in caption["words"]][: len(first)]
        assert 0 < len(words_of(seen, attempt=1)) < len(captions[0]["words"])
        assert seen == follow(client, job["links"]["events"])
