"""The routes of heatmaps, pictures and queue positions, with jobs in a real Valkey."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from PIL import Image
from redis import Redis
from support.queueing import PROBLEM, claim_all, produce

from app.api import heatmaps
from app.api.heatmaps import Renderer, RendererBusy
from app.main import create_app
from app.rendering.contact_sheet import contact_sheet
from app.rendering.overlay import word_overlay
from app.settings import AppSettings
from jobs import keys
from jobs.consumer import Consumer
from jobs.job import Caption, ModelInfo, Result, Word, WordMap
from jobs.options import CaptionOptions
from jobs.producer import Picture, Producer, Submission
from jobs.settings import QueueSettings

DOG = Word(text="dog", logprob=-1.0, heatmap=WordMap(rows=1, cols=2, weights=[0.25, 0.75]))
EVERYWHERE = Word(text="a", logprob=-1.0, heatmap=WordMap(rows=1, cols=2, weights=[0.5, 0.5]))
NO_HEATMAP = Word(text="dog", logprob=-1.0, heatmap=None)
CAPTIONS = [
    Caption(text="a dog", logprob=-2.0, words=[EVERYWHERE, DOG]),
    Caption(text="dog", logprob=-3.0, words=[NO_HEATMAP]),
]


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A working image."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def finished(settings: QueueSettings, redis: Redis, picture: bytes) -> str:
    """The id of a job that has succeeded, with CAPTIONS."""
    job_id = submitted(settings, picture)
    consumer = Consumer(redis, settings)
    result = Result(model=ModelInfo(name="none", version="0"), captions=CAPTIONS)
    assert consumer.succeed(consumer.start(claim_all(consumer, 1))[0], result)
    return job_id


def submitted(settings: QueueSettings, picture: bytes) -> str:
    async def act(producer: Producer) -> str:
        return await producer.submit(Submission(CaptionOptions()), Picture(picture, 64, 48))

    return produce(settings, act)


@asynccontextmanager
async def client_of(settings: QueueSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a web process that runs in this process."""
    api = create_app(AppSettings(redis_url=settings.redis_url, decoders=1))
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://127.0.0.1") as client,
    ):
        yield client


def answers(settings: QueueSettings, paths: Sequence[str]) -> list[httpx.Response]:
    """Request all paths concurrently."""

    async def ask() -> list[httpx.Response]:
        async with client_of(settings) as client:
            return await asyncio.gather(*(client.get(f"/v1/captions/{path}") for path in paths))

    return asyncio.run(ask())


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    return answer.status_code, body["type"].rpartition(":")[2]


def test_words_and_sheets_are_drawn(settings: QueueSettings, finished: str, picture: bytes) -> None:
    names = ["words/0.png", "words/1.png", "words/0.png?scale=caption", "sheet.png", "sheet.png?scale=caption"]
    pngs = answers(settings, [f"{finished}/captions/0/{name}" for name in names])
    for png in pngs:
        assert png.status_code == 200, png.text
        assert png.headers["content-type"] == "image/png"
        kept, seconds = png.headers["cache-control"].split(", max-age=")
        assert kept == "private"
        assert 0 < int(seconds) <= settings.result_ttl_seconds
    assert EVERYWHERE.heatmap
    assert DOG.heatmap
    assert [png.content for png in pngs] == [
        word_overlay(picture, EVERYWHERE.heatmap, None, '"a" in "a dog"'),
        word_overlay(picture, DOG.heatmap, None, '"dog" in "a dog"'),
        word_overlay(picture, EVERYWHERE.heatmap, 0.75, '"a" in "a dog"'),
        contact_sheet(picture, CAPTIONS[0], "word"),
        contact_sheet(picture, CAPTIONS[0], "caption"),
    ]


def test_missing_words_and_captions_are_not_found(settings: QueueSettings, finished: str) -> None:
    expected = {
        f"{finished}/captions/2/sheet.png": (404, "not-found"),
        f"{finished}/captions/2/words/0.png": (404, "not-found"),
        f"{finished}/captions/0/words/2.png": (404, "not-found"),
        f"{finished}/captions/1/words/0.png": (404, "no-heatmap"),
        f"{finished}/captions/1/sheet.png": (404, "no-heatmap"),
        f"{finished}/captions/-1/sheet.png": (422, "invalid-request"),
        f"{finished}/captions/0/words/-1.png": (422, "invalid-request"),
        f"{finished}/captions/0/words/dog.png": (422, "invalid-request"),
        f"{finished}/captions/0/sheet.png?scale=jet": (422, "invalid-request"),
        f"{finished}/captions/0/words/0.jpg": (404, "not-found"),
        "0/captions/0/sheet.png": (404, "not-found"),
    }
    assert dict(zip(expected, map(problem, answers(settings, list(expected))), strict=True)) == expected


def test_captions_outlive_their_picture(settings: QueueSettings, finished: str, redis: Redis) -> None:
    redis.delete(keys.image(finished))
    paths = [f"{finished}/captions/0/sheet.png", f"{finished}/captions/0/words/0.png"]
    assert [problem(answer) for answer in answers(settings, paths)] == [(410, "picture-gone")] * 2


def test_unfinished_and_failed_jobs_have_no_heatmaps(settings: QueueSettings, redis: Redis, picture: bytes) -> None:
    job_id = submitted(settings, picture)
    path = f"{job_id}/captions/0/sheet.png"
    assert problem(answers(settings, [path])[0]) == (409, "not-finished")
    consumer = Consumer(redis, settings)
    (claim,) = consumer.start(claim_all(consumer, 1))
    assert problem(answers(settings, [path])[0]) == (409, "not-finished")
    assert consumer.fail(claim, PROBLEM)
    assert problem(answers(settings, [path])[0]) == (404, "not-found")


def test_too_many_drawings_are_answered_with_503(
    settings: QueueSettings, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Renderer(threads=1, max_waiting=0)
    monkeypatch.setattr(heatmaps, "renderer", renderer)
    path, go_on = f"/v1/captions/{finished}/captions/0/sheet.png", threading.Event()

    async def scenario() -> None:
        async with client_of(settings) as client:
            drawing = asyncio.create_task(renderer.render(lambda: b"drawn" if go_on.wait(60) else b""))
            await asyncio.sleep(0)  # now the only thread is busy
            refused = await client.get(path)
            assert problem(refused) == (503, "busy")
            assert int(refused.headers["retry-after"]) > 0
            go_on.set()
            assert await drawing == b"drawn"
            assert (await client.get(path)).status_code == 200

    asyncio.run(scenario())


def test_the_renderer_bounds_concurrent_and_waiting_drawings() -> None:
    async def scenario() -> None:
        renderer = Renderer(threads=2, max_waiting=1)
        started, go_on = threading.Semaphore(0), threading.Event()

        def draw(result: bytes) -> bytes:
            started.release()
            assert go_on.wait(60)
            return result

        drawings = [asyncio.create_task(renderer.render(partial(draw, bytes([n])))) for n in range(3)]
        for _ in range(2):
            assert await asyncio.to_thread(started.acquire, timeout=60)
        with pytest.raises(RendererBusy):
            await renderer.render(partial(draw, b"refused"))
        assert not started.acquire(blocking=False)  # the third waits
        go_on.set()
        assert await asyncio.gather(*drawings) == [b"\0", b"\1", b"\2"]
        assert await renderer.render(partial(draw, b"free again")) == b"free again"

    asyncio.run(scenario())


def test_the_stored_picture_can_be_read(settings: QueueSettings, finished: str, picture: bytes, redis: Redis) -> None:
    (kept,) = answers(settings, [f"{finished}/picture.jpg"])
    assert kept.status_code == 200
    assert kept.headers["content-type"] == "image/jpeg"
    assert kept.headers["cache-control"].startswith("private, max-age=")
    assert kept.content == picture
    redis.delete(keys.image(finished))
    assert problem(answers(settings, [f"{finished}/picture.jpg"])[0]) == (410, "picture-gone")
    assert problem(answers(settings, ["0/picture.jpg"])[0]) == (404, "not-found")


def test_queue_position_counts_earlier_jobs(settings: QueueSettings, finished: str, picture: bytes) -> None:
    waiting = [submitted(settings, picture + bytes([number])) for number in range(3)]
    positions = answers(settings, [f"{job_id}/queue-position" for job_id in (finished, *waiting)])
    assert [answer.json()["ahead"] for answer in positions] == [None, 0, 1, 2]
    assert problem(answers(settings, ["0/queue-position"])[0]) == (404, "not-found")
