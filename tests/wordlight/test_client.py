"""The Python client with a real service: results, errors, and recovery from lost answers."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from support import tiny
from support.api import encode
from support.command import Service
from support.in_process import Run
from support.running import Running, running
from support.synchronous_client import SOURCE, TARGET, synchronous

from wordlight.client import (
    AsyncClient,
    CaptionOptions,
    Client,
    Event,
    Job,
    JobFailed,
    NotAllowed,
    NotUnderstood,
    ProblemAnswer,
    RateLimited,
    Status,
    Strategy,
    TookTooLong,
    Unavailable,
    Unreachable,
)
from wordlight.client.errors import error_of
from wordlight.client.retries import Retries
from wordlight.client.wire import read_job

PICTURE = encode(tiny.picture("red", "green"), "PNG")
GREEDY = CaptionOptions(strategy=Strategy.GREEDY)

T = TypeVar("T")


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def idle() -> Iterator[Running]:
    """A service without workers. Two jobs fill its queue."""
    with running(WORDLIGHT_MAX_JOBS="2") as service:
        yield service


def in_loop(service: Service, act: Callable[[AsyncClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with AsyncClient(service.url) as client:
            return await act(client)

    return asyncio.run(run())


def test_pictures_may_be_bytes_files_or_paths(client: Client, photo: Path) -> None:
    with photo.open("rb") as file:
        texts = {client.caption(image).captions[0].text for image in (photo, str(photo), photo.read_bytes(), file)}
    assert len(texts) == 1
    job = client.caption(PICTURE, CaptionOptions(num_captions=2), timeout=60)
    assert job.status is Status.SUCCEEDED
    assert len(job.captions) == 2
    assert set(job.captions[0].text.split()) <= tiny.WORDS
    heatmap = job.captions[0].words[0].heatmap
    assert heatmap
    assert len(heatmap.weights) == heatmap.rows * heatmap.cols
    assert (job.image.width, job.image.height) == (96, 96)


def test_both_clients_do_the_same(client: Client, service: Service) -> None:
    async def act(other: AsyncClient) -> tuple[Job, Job]:
        return await other.caption(PICTURE), await other.score(PICTURE, "a red over a green")

    captioned, scored = in_loop(service, act)
    assert captioned.captions == client.caption(PICTURE).captions
    assert scored.captions == client.score(PICTURE, "a red over a green").captions


def test_the_synchronous_client_is_generated_from_the_asynchronous_one() -> None:
    source, target = SOURCE.read_text(encoding="utf-8"), TARGET.read_text(encoding="utf-8")
    assert target == synchronous(source), "generate it again: make client"


def test_jobs_can_be_followed_listed_drawn_and_deleted(client: Client) -> None:
    job = client.submit(PICTURE, GREEDY)
    events = list(client.events(job.id))
    done = client.wait(job)
    assert events[-1].status is Status.SUCCEEDED
    if not done.cached:
        decided = [event.decided.word.text for event in events if event.decided]
        assert decided == [word.text for word in done.captions[0].words]
    assert client.wait(job.id) == client.job(job.id) == done
    assert job.id in {summary.id for summary in client.jobs()}
    for picture in (client.sheet(job.id), client.heatmap(job.id, 0, scale="caption")):
        assert picture.startswith(b"\x89PNG")
    client.delete(job.id)
    with pytest.raises(ProblemAnswer) as gone:
        client.job(job.id)
    assert gone.value.problem.kind == "gone"
    assert not gone.value.retryable


def test_the_asynchronous_client_follows_and_lists(service: Service) -> None:
    async def act(client: AsyncClient) -> tuple[list[Event], set[str], bytes, str]:
        job = await client.submit(encode(tiny.picture("blue", "white"), "PNG"), GREEDY)
        events = [event async for event in client.events(job.id)]
        listed = {summary.id async for summary in client.jobs()}
        sheet, heatmap = await client.sheet(job.id), await client.heatmap(job.id, 0)
        assert (await client.wait(job.id)).status is Status.SUCCEEDED
        assert (await client.job(job.id)).id == job.id
        await client.delete(job.id)
        return events, listed, sheet[:4] + heatmap[:4], job.id

    events, listed, magic, name = in_loop(service, act)
    assert events[-1].status is Status.SUCCEEDED
    assert name in listed
    assert magic == b"\x89PNG" * 2


def test_several_pictures_form_a_batch(client: Client, service: Service, photo: Path) -> None:
    batch = client.wait_for_batch(client.submit_batch([photo, PICTURE, b"no picture"]))
    assert [job.status for job in batch.jobs] == [Status.SUCCEEDED, Status.SUCCEEDED, Status.FAILED]
    assert batch.jobs[0].name == photo.name
    assert client.wait_for_batch(batch.id) == client.cancel_batch(batch.id) == batch

    async def act(other: AsyncClient) -> object:
        batch = await other.wait_for_batch((await other.submit_batch([PICTURE])).id)
        return (await other.cancel_batch(batch.id)).jobs[0].text

    assert in_loop(service, act) == batch.jobs[1].text


def test_problems_of_the_service_are_raised(client: Client, service: Service, tmp_path: Path) -> None:
    with pytest.raises(ProblemAnswer, match="not a picture") as refused:
        client.caption(b"hello")
    assert refused.value.problem.kind == "unsupported-format"
    client.caption(PICTURE, CaptionOptions(max_words=3), idempotency_key="twice")
    with pytest.raises(ProblemAnswer) as refused:
        client.caption(PICTURE, CaptionOptions(max_words=4), idempotency_key="twice")
    assert refused.value.problem.kind == "idempotency-key-reused"
    with pytest.raises(FileNotFoundError):
        client.caption(tmp_path / "missing.jpg")
    with pytest.raises(ValueError, match="not the address of a service"):
        Client("localhost:8000")
    with Client(f"{service.url}/static") as lost, pytest.raises(ProblemAnswer):
        lost.job("x")


def test_a_service_that_does_not_answer_is_unreachable() -> None:
    with Client("http://127.0.0.1:1", patience=0.6) as client, pytest.raises(Unreachable):
        client.caption(PICTURE)


def test_a_job_without_captions_is_an_error(idle: Running) -> None:
    with Client(idle.url, patience=0.1) as client:
        job = client.submit(PICTURE)
        with pytest.raises(TookTooLong) as late:
            client.wait(job, timeout=0.2)
        assert late.value.waited_for == client.job(job.id)
        assert client.cancel(job.id).status is Status.CANCELED
        with pytest.raises(JobFailed) as failed:
            client.caption(PICTURE, CaptionOptions(expires_in=1))
        assert failed.value.job.status is Status.EXPIRED


def test_a_full_service_is_an_error_when_patience_ends(idle: Running) -> None:
    with Client(idle.url, patience=0.1) as client:
        jobs = [client.submit(encode(tiny.picture(*colours), "PNG")) for colours in (("red", "blue"), ("blue", "red"))]
        with pytest.raises(Unavailable) as full:
            client.submit(PICTURE)
        assert full.value.problem.kind == "queue-full"
        assert full.value.retry_after == 5
        for job in jobs:
            client.delete(job.id)


def test_keys_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(WORDLIGHT_REQUIRE_KEYS="true") as service:
        made = subprocess.run(
            [sys.executable, "-m", "wordlight", "keys", "create", "me", "--limit", "1/hour", "--json"],
            env={**os.environ, "REDIS_URL": service.redis_url},
            capture_output=True,
            text=True,
            check=True,
        )
        key = json.loads(made.stdout)["secret"]
        with Client(service.url) as client, pytest.raises(NotAllowed):
            client.submit(PICTURE)
        monkeypatch.setenv("WORDLIGHT_API_KEY", key)
        with Client(service.url, patience=0.1) as client:
            client.submit(PICTURE)
            with pytest.raises(RateLimited, match="1 pictures per 1 hour") as limited:
                client.submit(PICTURE)
            assert limited.value.retry_after
            assert limited.value.retryable
            with pytest.raises(RateLimited, match="can never have 2") as never:
                client.submit_batch([PICTURE, PICTURE])
            assert not never.value.retryable


class LosingAnswers(httpx2.HTTPTransport):
    """Connections to the real service that lose the first answer to each method."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[str] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        if request.method not in self.lost:
            self.lost.append(request.method)
            answer.read()
            raise httpx2.ReadError("the connection broke", request=request)
        return answer


def test_a_lost_answer_creates_no_second_job(service: Service) -> None:
    with Client(service.url) as usual:
        before = {job.id for job in usual.jobs()}
        losing = LosingAnswers()
        with httpx2.Client(transport=losing) as http:
            job = Client(service.url, http=http).caption(encode(tiny.picture("white", "red"), "PNG"))
        assert losing.lost == ["POST"]
        assert {job.id for job in usual.jobs()} - before == {job.id}


class CuttingStreams(httpx2.HTTPTransport):
    """Connections to the real service that break streams of events after the first bytes."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        if "text/event-stream" in answer.headers.get("content-type", ""):
            answer.stream = _Cut(answer.stream)
        return answer


class _Cut(httpx2.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            yield chunk[:5000]
            raise httpx2.ReadError("the connection broke")

    def close(self) -> None:
        self._stream.close()


def test_events_resume_where_the_connection_broke(service: Service) -> None:
    with Client(service.url) as usual, httpx2.Client(transport=CuttingStreams()) as http:
        job = usual.wait(usual.submit(encode(tiny.picture("green", "white"), "PNG"), GREEDY))
        whole = list(usual.events(job.id))
        assert len(whole) > 3
        assert list(Client(service.url, http=http).events(job.id)) == whole
        assert list(usual.events(job.id, after=whole[1].id)) == whole[2:]
        assert list(usual.events(job.id, after=whole[-1].id)) == []


def error(status: int, **headers: str) -> ProblemAnswer:
    return error_of(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def test_pauses_follow_the_service_or_double() -> None:
    retries = Retries(patience=60)
    assert 7 <= retries.pause(error(503, retry_after="7")) <= 7.5
    assert 0 <= retries.pause(error(429, retry_after="0")) <= 0.5
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 15 <= Retries(patience=60).pause(error(503, retry_after=soon)) <= 20.5
    retries = Retries(patience=1000)
    for number in range(12):
        longest = min(0.5 * 2**number, 30)
        assert longest / 2 <= retries.pause(Unreachable("no")) <= longest


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500])
def test_permanent_errors_are_not_retried(status: int) -> None:
    with pytest.raises(ProblemAnswer):
        Retries(patience=60).pause(error(status))


def test_patience_ends() -> None:
    with pytest.raises(Unavailable):
        Retries(patience=60).pause(error(503, retry_after="61"))
    retries = Retries(patience=60)
    for _ in range(2):
        retries.pause(error(503, retry_after="25"))
    with pytest.raises(Unavailable):
        retries.pause(error(503, retry_after="25"))
    with pytest.raises(RateLimited):
        Retries(patience=60).pause(error(429))


def test_answers_of_proxies_and_other_servers() -> None:
    assert error_of(502, {}, b"<html>").problem.status == 502
    assert error_of(503, {"retry-after": "soon"}, b"").retry_after is None
    for content in (b"", b"<html>", b"[]", b"{}", b'{"options": []}', b'{"options": {}}'):
        with pytest.raises(NotUnderstood):
            read_job(content)


def test_unknown_fields_of_a_newer_service_are_ignored(client: Client) -> None:
    job = client.caption(PICTURE)
    data = json.loads(job.model_dump_json())
    data["options"]["colour"] = "sepia"
    data["mood"] = "blue"
    assert read_job(json.dumps(data).encode()) == job


def test_jobs_cancel_prints_json(idle: Running, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    with Client(idle.url) as client:
        job = client.submit(PICTURE)
    monkeypatch.setenv("REDIS_URL", idle.redis_url)
    done = run("jobs", "cancel", job.id, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"canceled": job.id}
