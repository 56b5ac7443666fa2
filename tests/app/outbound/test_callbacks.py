"""Webhooks and image URLs between real processes and servers on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook
from support import tiny
from support.api import encode, make_key, problem
from support.loopback import Answer, Server, answering, in_turn, serving, status
from support.running import Running, running

from app.outbound.webhooks import signing_secret

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PICTURE = encode(tiny.picture("red", "green"), "PNG")
MOST_BYTES = 100_000


@pytest.fixture(scope="module")
def outgoing(tiny_captioner: Path) -> Iterator[Running]:
    """A service that may send requests to loopback, and retries soon."""
    with running(
        tiny_captioner,
        WORDLIGHT_IMAGE_URLS="true",
        WORDLIGHT_WEBHOOK_SECRET=SECRET,
        WORDLIGHT_WEBHOOK_RETRY_SECONDS="0.1,0.1",
        WORDLIGHT_OUTBOUND_NETWORKS="127.0.0.0/8",
        WORDLIGHT_MAX_UPLOAD_BYTES=str(MOST_BYTES),
    ) as service:
        yield service


@asynccontextmanager
async def asking(service: Running, answer: Answer) -> AsyncIterator[tuple[httpx.AsyncClient, Server]]:
    async with serving(answer) as server, httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        yield client, server


async def logged(client: httpx.AsyncClient, home: str, count: int) -> list[dict[str, Any]]:
    """Wait until a job has that many delivery attempts, and return them."""
    while True:
        log: list[dict[str, Any]] = (await client.get(f"{home}/deliveries")).json()
        if len(log) >= count:
            return log
        await asyncio.sleep(0.05)


def image(data: bytes, *headers: str) -> Answer:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(data)}", "Content-Type: image/png", *headers, "", ""]
    return answering("\r\n".join(lines).encode() + data)


def test_webhooks_are_signed_and_retried(outgoing: Running) -> None:
    async def act() -> None:
        async with asking(outgoing, in_turn(status(500), status(204))) as (client, server):
            sent = await client.post(
                "/v1/captions", files={"image": PICTURE}, data={"webhook_url": server.url("/hook")}
            )
            home = sent.json()["links"]["self"]
            requests = [await server.requests.get(), await server.requests.get()]
            for request in requests:
                assert request.line == "POST /hook HTTP/1.1"
                event = Webhook(SECRET).verify(request.body, request.headers)
                assert event["type"] == "caption.succeeded"
                job = (await client.get(home)).json()
                assert event["data"] == {name: value for name, value in job.items() if name != "links"}
            assert len({(request.headers["webhook-id"], request.body) for request in requests}) == 1
            log = await logged(client, home, 2)
            assert [(one["tries"], one["status"]) for one in log] == [(1, 500), (2, 204)]
            assert [one["error"] for one in log] == ["the receiver answered 500", None]

    asyncio.run(act())


def test_a_cached_job_sends_its_webhook(outgoing: Running) -> None:
    async def act() -> None:
        async with asking(outgoing, status(200)) as (client, server):
            for cached in (False, True):
                await client.post(
                    "/v1/captions", files={"image": PICTURE}, data={"webhook_url": server.url(), "max_words": 9}
                )
                event = json.loads((await server.requests.get()).body)
                assert event["data"]["cached"] is cached

    asyncio.run(act())


def test_each_key_has_its_own_signing_secret(tiny_captioner: Path) -> None:
    async def act(service: Running) -> None:
        async with asking(service, status(200)) as (client, server):
            key, secret = await asyncio.to_thread(make_key, service.redis_url, "anna")
            client.headers["Authorization"] = f"Bearer {secret}"
            await client.post("/v1/captions", files={"image": PICTURE}, data={"webhook_url": server.url()})
            request = await server.requests.get()
            Webhook(signing_secret(SECRET, key.id)).verify(request.body, request.headers)

    with running(
        tiny_captioner,
        WORDLIGHT_REQUIRE_KEYS="true",
        WORDLIGHT_WEBHOOK_SECRET=SECRET,
        WORDLIGHT_OUTBOUND_NETWORKS="127.0.0.0/8",
    ) as service:
        asyncio.run(act(service))


@pytest.mark.parametrize("field", ["image_url", "webhook_url"])
@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/a",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a",
        "https://user:word@127.0.0.1/",
        "ftp://127.0.0.1/a",
        "file:///etc/passwd",
        "a.jpg",
    ],
)
def test_private_addresses_are_refused_and_the_field_named(outgoing: Running, field: str, url: str) -> None:
    files = {"image": PICTURE} if field == "webhook_url" else None
    body = None if files else {field: url}
    answer = httpx.post(f"{outgoing.url}/v1/captions", files=files, data={field: url} if files else None, json=body)
    assert [error["field"] for error in problem(answer, 422, "address-refused")["errors"]] == [field]


def test_an_image_url_is_fetched(outgoing: Running) -> None:
    async def act() -> None:
        async with asking(outgoing, image(PICTURE)) as (client, server):
            wanted = {"image_url": server.url("/a.png?size=1"), "max_words": 5, "attention": "none"}
            sent = await client.post("/v1/captions", json=wanted, headers={"Prefer": "wait=60"})
            assert (sent.status_code, sent.json()["status"]) == (200, "succeeded"), sent.text
            assert sent.json()["image"] == {"width": 96, "height": 96}
            request = await server.requests.get()
            assert request.line == "GET /a.png?size=1 HTTP/1.1"
            assert "cookie" not in request.headers
            scored = await client.post("/v1/scores", json={"image_url": server.url(), "caption": "one red"})
            assert scored.json()["captions"][0]["text"] == "one red"

    asyncio.run(act())


@pytest.mark.parametrize(
    ("answer", "code", "kind"),
    [
        (status(302, "Location: http://127.0.0.1/elsewhere"), 422, "fetch-failed"),
        (status(404), 422, "fetch-failed"),
        (image(bytes(MOST_BYTES + 1)), 413, "image-too-large"),
        (answering(b"HTTP/1.1 200 OK\r\n\r\n", *[bytes(1000)] * 101), 413, "image-too-large"),
        (image(PICTURE[:-100]), 422, "undecodable-image"),
        (image(b"<html>"), 415, "unsupported-format"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"), 422, "fetch-failed"),
    ],
)
def test_failed_downloads_and_non_images_are_refused(outgoing: Running, answer: Answer, code: int, kind: str) -> None:
    async def act() -> None:
        async with asking(outgoing, answer) as (client, server):
            refused = await client.post("/v1/captions", json={"image_url": server.url()})
            body = problem(refused, code, kind)
            if kind == "fetch-failed":
                assert [error["field"] for error in body["errors"]] == ["image_url"]
            assert server.requests.qsize() == 1, "redirects are not followed, and failures not retried"

    asyncio.run(act())


def test_a_file_and_an_image_url_are_refused(outgoing: Running) -> None:
    answer = httpx.post(
        f"{outgoing.url}/v1/captions", files={"image": PICTURE}, data={"image_url": "http://127.0.0.1/"}
    )
    assert [error["field"] for error in problem(answer, 422, "invalid-request")["errors"]] == ["image_url"]
