"""Receiving uploads on a real server: from valid clients, and from those that send false lengths, stall or hang up."""

import gzip
import hashlib
import json
import resource
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from support.api import problem

from app.problems import install_problem_handlers
from app.settings import AppSettings
from app.uploads.receiver import Upload, UploadReceiver

KIB = 1024
LARGEST = 2048 * KIB
BATCH = 3 * LARGEST
SETTINGS = AppSettings(max_upload_bytes=LARGEST, max_batch_files=5, max_batches=1, max_batch_bytes=BATCH)
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}
Parts = Sequence[tuple[str, tuple[str | None, bytes]]]


def summary(upload: Upload) -> dict[str, Any]:
    """The response of the tests' server: everything that was received, with digests of the files as they are read."""
    files = [
        {"name": one.name, "size": one.size, "sha256": one.sha256, "read": hashlib.sha256(one.file.read()).hexdigest()}
        for one in upload.files
    ]
    return {"files": files, "fields": dict(upload.fields)}


@contextmanager
def serving(batch_seconds: float = 60) -> Iterator[httpx.Client]:
    """A client of a server that only receives uploads: one file at /one; at /many several, one request at a time."""
    api = FastAPI()
    install_problem_handlers(api)
    uploads = UploadReceiver(SETTINGS.model_copy(update={"batch_seconds": batch_seconds}))

    @api.post("/one")
    async def one(request: Request) -> dict[str, Any]:
        async with uploads.receive_one(request) as upload:
            return summary(upload)

    @api.post("/many")
    async def many(request: Request) -> dict[str, Any]:
        async with uploads.receive_batch(request) as upload:
            return summary(upload)

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving() as client:
        yield client


@contextmanager
def connected(client: httpx.Client, head: str) -> Iterator[socket.socket]:
    """Open a connection and send the head of a request."""
    address = (client.base_url.host, client.base_url.port or 0)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(f"{head}\r\n\r\n".replace("\n", "\r\n").replace("\r\r", "\r").encode())
        yield connection


def answer_on(connection: socket.socket) -> str:
    """Read to the end of the response's headers, or until the server closes the connection."""
    received = b""
    while b"\r\n\r\n" not in received and (chunk := connection.recv(65536)):
        received += chunk
    return received.decode()


def form(*parts: tuple[str, str | None, bytes], end: bytes = b"--b--\r\n") -> bytes:
    """The body of a form, from field names, file names and contents."""
    body = b""
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
        body += f"--b\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
    return body + end


def test_a_file_and_the_fields_beside_it(client: httpx.Client) -> None:
    data = bytes(range(256)) * 5000  # more than is kept in memory
    fields = {"num_captions": "3", "prefix": "ein Löwe", "seed": ""}
    answer = client.post("/one", files={"image": ("löwe.jpg", data)}, data=fields).json()
    digest = hashlib.sha256(data).hexdigest()
    assert answer["files"] == [{"name": "löwe.jpg", "size": len(data), "sha256": digest, "read": digest}]
    assert answer["fields"] == fields


def test_the_file_itself_as_the_body(client: httpx.Client) -> None:
    for path, kind in (("/one", "image/png"), ("/many", "application/zip")):
        for size in (0, 10, LARGEST):
            answer = client.post(path, content=bytes(size), headers={"Content-Type": kind}).json()
            digest = hashlib.sha256(bytes(size)).hexdigest()
            assert answer["files"] == [{"name": "unnamed", "size": size, "sha256": digest, "read": digest}]


def test_options_as_json(client: httpx.Client) -> None:
    fields = {"image_url": "https://example.org/löwe.jpg", "num_captions": 3, "temperature": 0.5, "a": True}
    assert client.post("/one", json=fields | {"b": None}).json() == {"files": [], "fields": fields}
    problem(client.post("/many", json=fields), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "malformed-json"),
        (b'{"a": 1', 400, "malformed-json"),
        (b'{"a": "\xff"}', 400, "malformed-json"),
        (b'{"a": "\\ud800"}', 400, "malformed-json"),
        (b'{"a": NaN}', 400, "malformed-json"),
        (b'{"a": ' + b"9" * 5000 + b"}", 400, "malformed-json"),
        (b"[" * 60_000, 400, "malformed-json"),
        (b"[1]", 422, "invalid-request"),
        (b"null", 422, "invalid-request"),
        (b'{"a": [1]}', 422, "invalid-request"),
        (b'{"a": {}}', 422, "invalid-request"),
        (b'{"a": 1e999}', 422, "invalid-request"),
        (json.dumps({"a": "ä" * 2049}).encode(), 422, "invalid-request"),
        (json.dumps({f"f{number}": number for number in range(33)}).encode(), 422, "invalid-request"),
        (json.dumps({"a": "x" * 65_530}).encode(), 413, "request-too-large"),
    ],
)
def test_invalid_json_is_refused(client: httpx.Client, body: bytes, status: int, kind: str) -> None:
    answer = client.post("/one", content=body, headers={"Content-Type": "application/json"})
    errors = problem(answer, status, kind).get("errors")
    assert not errors or errors[0]["field"] == "a"


def test_invalid_fields_are_named(client: httpx.Client) -> None:
    image = ("image", ("a.jpg", b"x"))
    for path in ("/one", "/many"):
        twice: Parts = [image, ("seed", (None, b"1")), ("seed", (None, b"2"))]
        assert problem(client.post(path, files=twice), 422, "invalid-request")["errors"][0]["field"] == "seed"
        long: Parts = [image, ("prefix", (None, b"x" * 4097))]
        assert problem(client.post(path, files=long), 422, "invalid-request")["errors"][0]["field"] == "prefix"
        text: Parts = [("image", (None, b"photo.jpg"))]  # curl -F image=photo.jpg
        assert problem(client.post(path, files=text), 422, "image-missing")["errors"][0]["field"] == "image"
        elsewhere: Parts = [("seed", ("a.jpg", b"x"))]
        assert problem(client.post(path, files=elsewhere), 422, "image-missing")["errors"][0]["field"] == "seed"
    longest = {"prefix": "x" * 4096}
    assert client.post("/one", files=[image], data=longest).json()["fields"] == longest


def test_the_numbers_of_fields_and_files_are_bounded(client: httpx.Client) -> None:
    fields = {f"f{number}": "x" * 4096 for number in range(32)}
    files: Parts = [("image", ("a", bytes(LARGEST)))]
    assert client.post("/one", files=files, data=fields).json()["fields"] == fields
    problem(client.post("/one", files=files, data=fields | {"f32": ""}), 400, "malformed-multipart")
    problem(client.post("/one", files=[("image", ("a", b"x"))] * 2), 422, "too-many-files")
    assert len(client.post("/many", files=[("images", ("a", b"x"))] * 5).json()["files"]) == 5
    problem(client.post("/many", files=[("images", ("a", b"x"))] * 6), 422, "too-many-files")


def test_several_files_keep_their_order(client: httpx.Client) -> None:
    files: Parts = [("images", ("a.jpg", b"1")), ("image", ("b.zip", b"22")), ("images", ("a.jpg", b"333"))]
    answer = client.post("/many", files=files, data={"seed": "1"}).json()
    assert [(file["name"], file["size"]) for file in answer["files"]] == [("a.jpg", 1), ("b.zip", 2), ("a.jpg", 3)]
    assert answer["fields"] == {"seed": "1"}
    problem(client.post("/many", files={"seed": (None, b"1")}), 422, "image-missing")


def test_an_empty_file_input_is_ignored(client: httpx.Client) -> None:
    body = form(("image", "", b""), ("image_url", None, b"https://example.org/"))
    answer = client.post("/one", content=body, headers=BOUNDARY).json()
    assert answer == {"files": [], "fields": {"image_url": "https://example.org/"}}
    problem(client.post("/many", content=form(("images", "", b"")), headers=BOUNDARY), 422, "image-missing")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("a\u202egpj.exe", "a\ufffdgpj.exe"),
        ("Screenshot 9.41\u202fAM.png", "Screenshot 9.41 AM.png"),
        ("o\u0308.jpg", "ö.jpg"),
        ("x" * 300, "x" * 199 + "…"),
        ("..", ".."),
        ("/", "unnamed"),
    ],
)
def test_names_are_for_display_only(client: httpx.Client, name: str, shown: str) -> None:
    body = form(("image", name, b"x"))
    assert client.post("/one", content=body, headers=BOUNDARY).json()["files"][0]["name"] == shown


@pytest.mark.parametrize("length_known", [True, False])
@pytest.mark.parametrize(
    ("path", "headers", "most", "kind"),
    [
        ("/one", {"Content-Type": "image/jpeg"}, LARGEST, "image-too-large"),
        ("/many", {"Content-Type": "application/zip"}, BATCH, "request-too-large"),
        ("/many", BOUNDARY, BATCH, "request-too-large"),
    ],
)
def test_one_byte_too_many_is_refused(
    client: httpx.Client, path: str, headers: Mapping[str, str], most: int, kind: str, length_known: bool
) -> None:
    around = len(form(("images", "a", b""))) if headers is BOUNDARY else 0
    for excess in (0, 1):
        content = bytes(most + excess - around)
        body = form(("images", "a", content)) if around else content
        sent = body if length_known else (body[at : at + 60_000] for at in range(0, len(body), 60_000))
        answer = client.post(path, content=sent, headers=headers)
        if excess:
            problem(answer, 413, kind)
            assert answer.headers["connection"] == "close"
        else:
            assert answer.json()["files"][0]["size"] == len(content)


@pytest.mark.parametrize("cut", [0, 3, 20, 80, -1, -3, -8, -12])
def test_a_truncated_form_is_refused(client: httpx.Client, cut: int) -> None:
    body = form(("images", "a", b"1" * 100), ("images", "b", b"2" * 100), end=b"--b--")
    problem(client.post("/many", content=body[:cut], headers=BOUNDARY), 400, "malformed-multipart")


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="a\\"b"',
        "multipart/form-data; boundary=" + "b" * 300,
        "multipart/form-data; boundary=c",
    ],
)
def test_invalid_boundaries_are_refused(client: httpx.Client, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    problem(client.post("/one", content=form(("image", "a", b"x")), headers=headers), 400, "malformed-multipart")


def test_a_charset_is_ignored(client: httpx.Client) -> None:
    body = form(("image", "löwe.jpg", b"x"), ("prefix", None, "ein Löwe".encode()))
    for charset in ("latin-1", "utf-16", "undefined", "idna", "unicode_escape", "rot13"):
        headers = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"}
        answer = client.post("/one", content=body, headers=headers).json()
        assert (answer["files"][0]["name"], answer["fields"]) == ("löwe.jpg", {"prefix": "ein Löwe"})


def test_headers_of_parts_are_bounded(client: httpx.Client) -> None:
    for header in (b"X: " + b"x" * 100_000, b"X: x\r\n" * 100, b"X" * 100_000):
        body = b"--b\r\n" + header + form(("image", "a", b"x"))[5:]
        problem(client.post("/one", content=body, headers=BOUNDARY), 400, "malformed-multipart")


def test_other_media_types_are_not_read(client: httpx.Client) -> None:
    for path in ("/one", "/many"):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=b", ""):
            answer = client.post(path, content=b"image=x", headers={"Content-Type": kind})
            problem(answer, 415, "unsupported-media-type")


def test_a_compressed_body_is_not_decompressed(client: httpx.Client) -> None:
    bomb = gzip.compress(bytes(LARGEST * 2))
    headers = {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}
    assert client.post("/one", content=bomb, headers=headers).json()["files"][0]["size"] == len(bomb)


def test_expect_100_continue_is_refused_before_the_body(client: httpx.Client) -> None:
    for path, kind, length in (("/one", "image/jpeg", LARGEST + 1), ("/many", "application/zip", BATCH + 1)):
        head = f"POST {path} HTTP/1.1\nHost: x\nContent-Type: {kind}\nContent-Length: {length}\nExpect: 100-continue"
        with connected(client, head) as connection:
            assert answer_on(connection).startswith("HTTP/1.1 413 ")


def test_a_false_content_length_does_not_matter(client: httpx.Client) -> None:
    head = "POST /one HTTP/1.1\nHost: x\nContent-Type: image/jpeg\nContent-Length: "
    with connected(client, head + "5") as connection:
        connection.sendall(b"1234567890")  # the excess bytes are a malformed second request
        assert answer_on(connection).startswith("HTTP/1.1 400 ")
    for stated_length in ("-1", "x", "1e3", "99999999999999999999999999"):
        with connected(client, head + stated_length) as connection:
            assert answer_on(connection).startswith("HTTP/1.1 4")


@pytest.mark.parametrize("path", ["/one", "/many"])
def test_disconnected_clients_free_their_slots(client: httpx.Client, path: str) -> None:
    body = form(("image", "a", bytes(1500 * KIB)))
    for _ in range(2):
        head = f"POST {path} HTTP/1.1\nHost: x\nContent-Type: {BOUNDARY['Content-Type']}\nContent-Length: {len(body)}"
        with connected(client, head) as connection:
            connection.sendall(body[: len(body) // 2])
    # The slots are free as soon as the server has noticed the disconnects.
    while client.post(path, content=body, headers=BOUNDARY).status_code == 503:
        pass


def test_too_many_batches_do_not_block_single_uploads(client: httpx.Client) -> None:
    head = "POST /many HTTP/1.1\nHost: x\nContent-Type: application/zip\nContent-Length: 4\nExpect: 100-continue"
    with connected(client, head) as slow:
        assert " 100 " in answer_on(slow)  # the upload is in progress
        zipped = {"Content-Type": "application/zip"}
        refused = client.post("/many", content=b"x", headers=zipped)
        problem(refused, 503, "busy")
        assert int(refused.headers["retry-after"]) > 0
        assert client.post("/one", content=b"x", headers={"Content-Type": "image/png"}).status_code == 200
        slow.sendall(b"done")
        assert answer_on(slow).startswith("HTTP/1.1 200 ")
    assert client.post("/many", content=b"x", headers=zipped).status_code == 200


def test_a_slow_batch_is_answered_with_408() -> None:
    with serving(batch_seconds=0.2) as client:
        head = f"POST /many HTTP/1.1\nHost: x\nContent-Type: {BOUNDARY['Content-Type']}\nContent-Length: 1000"
        with connected(client, head) as connection:
            connection.sendall(form(("images", "a", b"x"), end=b""))
            assert answer_on(connection).startswith("HTTP/1.1 408 ")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Simulate a full disk: files cannot grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("headers", [BOUNDARY, {"Content-Type": "image/jpeg"}])
def test_a_full_disk_is_answered_with_503(client: httpx.Client, headers: Mapping[str, str]) -> None:
    body = form(("image", "a", bytes(1800 * KIB)))
    with room_for(1200 * KIB):
        pieces = (body[at : at + 5_001] for at in range(0, len(body), 5_001))
        problem(client.post("/one", content=pieces, headers=headers), 503, "storage-failed")
    assert client.post("/one", content=body, headers=headers).status_code == 200


def test_many_files_do_not_accumulate_in_memory(client: httpx.Client) -> None:
    file = ("image", "a", bytes(300 * KIB))
    with room_for(0):
        assert client.post("/one", content=form(file), headers=BOUNDARY).status_code == 200
        problem(client.post("/many", content=form(*[file] * 5), headers=BOUNDARY), 503, "storage-failed")


def test_no_file_is_left_on_disk(client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    body = form(*[("images", "a", bytes(1200 * KIB))] * 3)
    assert client.post("/many", content=body, headers=BOUNDARY).status_code == 200
    problem(client.post("/many", content=body[:-9], headers=BOUNDARY), 400, "malformed-multipart")
    assert list(tmp_path.iterdir()) == []
