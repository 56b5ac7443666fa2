"""The routes of captions on a real service: valid and invalid requests."""

import http.client
import json
import math
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image
from support import tiny
from support.api import MB, encode, problem
from support.command import Service

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as http:
        yield http


def caption(client: httpx.Client, data: bytes, kind: str = "image/jpeg", **options: Any) -> dict[str, Any]:
    """The finished job of a picture sent as the body."""
    headers = {"Content-Type": kind, "Prefer": "wait=60"}
    answer = client.post("/v1/captions", content=data, headers=headers, params=options)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


def test_a_picture_is_accepted_and_captioned(client: httpx.Client, photo: Path) -> None:
    answer = client.post("/v1/captions", files={"image": photo.read_bytes()})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/captions/{job['id']}"
    assert job["status"] in ("queued", "processing", "succeeded")
    done = client.get(answer.headers["location"], params={"wait": 60}).json()
    assert done["status"] == "succeeded"
    assert done["image"] == {"width": 640, "height": 480}
    assert done["model"]["name"] == "tiny"
    assert done["error"] is None
    assert done["created_at"] <= done["started_at"] <= done["completed_at"]


def test_every_word_has_both_maps_when_asked_for(client: httpx.Client) -> None:
    job = caption(client, encode(tiny.picture("red", "blue"), "PNG"), "image/png", num_captions=3, attention="both")
    assert len(job["captions"]) == 3
    assert sorted(job["captions"], key=lambda c: -c["logprob"] / (len(c["words"]) + 1) ** 0.7) == job["captions"]
    for alternative in job["captions"]:
        assert alternative["text"] == " ".join(word["text"] for word in alternative["words"])
        assert {word["text"] for word in alternative["words"]} <= tiny.WORDS
        for word in alternative["words"]:
            assert word["logprob"] <= 0
            for word_map in (word["attention"], word["heatmap"]):
                assert len(word_map["weights"]) == word_map["rows"] * word_map["cols"]
                assert all(weight >= 0 for weight in word_map["weights"])
                assert math.isclose(sum(word_map["weights"]), 1, abs_tol=1e-3)


def test_prefer_wait_is_confirmed_and_capped(client: httpx.Client, photo: Path) -> None:
    headers = {"Content-Type": "image/jpeg", "Prefer": "respond-async, wait=600"}
    answer = client.post("/v1/captions", content=photo.read_bytes(), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.headers["location"].endswith(answer.json()["id"])


def read_events(client: httpx.Client, job_id: str, last: str | None = None) -> list[tuple[str, str]]:
    """The ids and names of a job's events, until the stream ends."""
    headers = {"Last-Event-ID": last} if last else {}
    events: list[tuple[str, str]] = []
    event: dict[str, str] = {}
    with client.stream("GET", f"/v1/captions/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif "data" in event:
                if event["event"] != "word":
                    assert json.loads(event["data"])["status"] == event["event"]
                events.append((event["id"], event["event"]))
                event = {}
    return events


def test_events_resume_without_gaps_or_repeats(client: httpx.Client, photo: Path) -> None:
    path = "/v1/captions?strategy=diverse&num_captions=3"  # sends no words
    job_id = client.post(path, files={"image": photo.read_bytes()}).json()["id"]
    events = read_events(client, job_id)
    assert [status for _, status in events] == ["queued", "processing", "succeeded"]
    assert read_events(client, job_id, last=events[0][0]) == events[1:]
    assert read_events(client, job_id, last="nonsense") == events


def test_a_phone_photograph_is_turned_upright(client: httpx.Client) -> None:
    upright = tiny.picture("white", "red", (120, 80))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated: viewers turn it clockwise by 90 degrees
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    expected = caption(client, encode(upright, quality=95))
    job = caption(client, encode(turned, quality=95, exif=exif))
    assert job["image"] == {"width": 120, "height": 80}
    assert job["captions"][0]["text"] == expected["captions"][0]["text"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_supported_format_is_accepted(client: httpx.Client, kind: str) -> None:
    job = caption(client, encode(tiny.picture("green", "white"), kind), f"image/{kind.lower()}")
    assert job["status"] == "succeeded"


def test_the_declared_media_type_does_not_matter(client: httpx.Client) -> None:
    assert caption(client, encode(tiny.picture("green", "white"), "PNG"), "image/jpeg")["status"] == "succeeded"


@pytest.mark.parametrize("length_known", [True, False])
def test_an_oversized_body_is_refused(client: httpx.Client, length_known: bool) -> None:
    chunks = [b"\xff" * MB] * 21
    content: Any = b"".join(chunks) if length_known else iter(chunks)
    answer = client.post("/v1/captions", content=content, headers={"Content-Type": "image/jpeg"})
    problem(answer, 413, "image-too-large")


def test_an_oversized_file_in_a_form_is_refused(client: httpx.Client) -> None:
    answer = client.post("/v1/captions", files={"image": bytes(20 * MB + 1)})
    problem(answer, 413, "image-too-large")


def test_files_that_are_not_images_are_refused(client: httpx.Client) -> None:
    headers = {"Content-Type": "image/jpeg"}
    svg, eps = b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"
    for data in (b"hello", b"", svg, eps, b"%PDF-1.7\n"):
        body = problem(client.post("/v1/captions", content=data, headers=headers), 415, "unsupported-format")
        assert "JPEG" in body["detail"]
        problem(client.post("/v1/captions", files={"image": data or b" "}), 415, "unsupported-format")


def test_a_body_that_is_neither_form_nor_image_is_refused(client: httpx.Client) -> None:
    problem(client.post("/v1/captions", data={"image": "..."}), 415, "unsupported-media-type")
    problem(client.post("/v1/captions"), 415, "unsupported-media-type")


def test_forms_without_a_picture_are_refused(client: httpx.Client) -> None:
    problem(client.post("/v1/captions", files={"prefix": (None, "a dog")}), 422, "image-missing")
    problem(client.post("/v1/captions", files={"image": (None, b"x")}), 422, "image-missing")
    headers = {"Content-Type": "multipart/form-data"}
    problem(client.post("/v1/captions", content=b"x", headers=headers), 400, "malformed-multipart")


def test_a_truncated_picture_is_refused(client: httpx.Client, photo: Path) -> None:
    data = photo.read_bytes()
    headers = {"Content-Type": "image/jpeg"}
    problem(client.post("/v1/captions", content=data[: len(data) // 2], headers=headers), 422, "undecodable-image")


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(client: httpx.Client) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    headers = {"Content-Type": "image/png"}
    problem(client.post("/v1/captions", content=bomb, headers=headers), 422, "too-many-pixels")


def test_errors_of_the_framework_are_problems_too(client: httpx.Client) -> None:
    problem(client.get("/nothing"), 404, "not-found")
    problem(client.put("/v1/captions"), 405, "method-not-allowed")
    body = problem(client.get("/v1/captions/x", params={"wait": "long"}), 422, "invalid-request")
    assert body["errors"][0]["field"] == "query.wait"
    problem(client.get("/v1/captions/x", params={"wait": -1}), 422, "invalid-request")


def test_unknown_jobs_are_not_found(client: httpx.Client) -> None:
    problem(client.get("/v1/captions/0"), 404, "not-found")
    problem(client.get("/v1/captions/0/events"), 404, "not-found")


def test_an_aborted_upload_leaves_no_error(client: httpx.Client, service: Service, photo: Path) -> None:
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        head = "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        connection.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + b"\xff\xd8")
    assert caption(client, photo.read_bytes())["status"] == "succeeded"
    assert not [line for line in service.command.lines if "Traceback" in line]


def test_events_after_the_last_one_are_204(client: httpx.Client, photo: Path) -> None:
    job_id = client.post("/v1/captions", files={"image": photo.read_bytes()}).json()["id"]
    last, _ = read_events(client, job_id)[-1]
    answer = client.get(f"/v1/captions/{job_id}/events", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.content) == (204, b"")  # EventSource does not reconnect after a 204


def test_prefer_is_parsed_as_a_list_and_never_fails_the_request(client: httpx.Client, photo: Path) -> None:
    data = photo.read_bytes()
    for value, applied in (("x-wait=30", None), ("wait=" + "9" * 5000, None), ('wait = "0"', "wait=0")):
        answer = client.post("/v1/captions", content=data, headers={"Content-Type": "image/jpeg", "Prefer": value})
        assert answer.status_code in (200, 202)
        assert answer.headers.get("preference-applied") == applied
    two_lines = [("Content-Type", "image/jpeg"), ("Prefer", "respond-async"), ("Prefer", "wait=60")]
    assert client.post("/v1/captions", content=data, headers=two_lines).status_code == 200


def test_a_client_that_sends_everything_first_receives_the_413(service: Service) -> None:
    address = urlsplit(service.url)
    for content_type in ("image/jpeg", "text/plain"):
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        connection.request("POST", "/v1/captions", body=bytes(30 * MB), headers={"Content-Type": content_type})
        assert connection.getresponse().status == (413 if content_type == "image/jpeg" else 415)
        connection.close()


def test_health_readiness_and_documentation(client: httpx.Client) -> None:
    for path in ("/", "/healthz", "/readyz"):
        assert client.head(path).status_code == 200
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["status"] == "ready"
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    job = "/v1/captions/{job_id}"
    assert {"/v1/captions", job, f"{job}/events", "/healthz", "/readyz"} <= set(paths)


def test_the_page_has_a_strict_content_security_policy(client: httpx.Client) -> None:
    for path in ("/", "/static/js/app.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
