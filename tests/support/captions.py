"""Requests for captions of a small picture."""

from typing import Any

import httpx

from support import tiny
from support.api import encode

PICTURE = encode(tiny.picture("red", "green"), "PNG")
WAIT = {"Prefer": "wait=60"}


def post(
    client: httpx.Client,
    path: str = "/v1/captions",
    picture: bytes = PICTURE,
    headers: dict[str, str] = WAIT,
    **fields: Any,
) -> httpx.Response:
    """Submit a picture with these options."""
    return client.post(path, files={"image": picture}, data=fields, headers=headers)


def finished(client: httpx.Client, path: str = "/v1/captions", picture: bytes = PICTURE, **fields: Any) -> Any:
    """Submit a picture with these options and return the succeeded job."""
    answer = post(client, path, picture, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "succeeded"
    return answer.json()


def texts(job: Any) -> list[str]:
    """Return the texts of a job's captions."""
    return [caption["text"] for caption in job["captions"]]
