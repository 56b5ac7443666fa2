"""Requests as plain data, and what their answers mean. In: pictures and options; out: requests, and typed results.

It must not know how requests are sent.
"""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from jobs.job import Job, JobSummary
from jobs.options import CaptionOptions, ScoreOptions
from wordlight.client.errors import NotUnderstood

Image = bytes | BinaryIO | str | os.PathLike[str]
"""A picture: what is in the file, the file, open in binary mode, or its path."""

Kind = TypeVar("Kind", bound=BaseModel)

CAPTIONS: Final = "/v1/captions"
SCORES: Final = "/v1/scores"
BATCHES: Final = "/v1/batches"

# As long as the service will hold an answer back.
LONGEST_WAIT: Final = 60


@dataclass(frozen=True, slots=True)
class Request:
    """A request. One that is sent again is the same, so a file is held as what is in it."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[tuple[str, tuple[str, bytes]]] = ()
    wait: float = 0.0  # the seconds that the answer may be held back


class JobPage(BaseModel):
    """A page of a list of jobs."""

    jobs: list[JobSummary]
    next: str | None


def submission(
    image: Image, options: CaptionOptions | ScoreOptions | None, webhook_url: str | None, key: str | None, wait: float
) -> Request:
    """A picture to be captioned or scored. Raises OSError when it cannot be read.

    `key` is the Idempotency-Key; with None there is a new one, so that a second try makes no second job.
    """
    name, data = _content(image)
    return Request(
        "POST",
        SCORES if isinstance(options, ScoreOptions) else CAPTIONS,
        headers=_submitting(key, wait),
        fields=_fields(options, webhook_url),
        files=[("image", (name, data))],
        wait=wait,
    )


def batch_submission(
    images: Sequence[Image], options: CaptionOptions | None, webhook_url: str | None, key: str | None
) -> Request:
    """Pictures, or ZIP archives of them, to be captioned. Raises OSError."""
    files = [("images", _content(image)) for image in images]
    return Request("POST", BATCHES, headers=_submitting(key, 0), fields=_fields(options, webhook_url), files=files)


def held(timeout: float | None) -> float:
    """How long the answer to a submission that is waited for may be held back."""
    return LONGEST_WAIT if timeout is None else max(1.0, min(timeout, LONGEST_WAIT))


def one(path: str, name: str, *, wait: float = 0.0) -> Request:
    """A look at a job or batch, which may be held back until it is over."""
    params = {"wait": str(int(wait))} if wait else {}
    return Request("GET", address(path, name), params=params, wait=wait)


def cancel(path: str, name: str) -> Request:
    """The end of a job, or of a batch's jobs, that are not over."""
    return Request("POST", address(path, name) + "/cancel")


def remove(path: str, name: str) -> Request:
    """No more of a job or batch."""
    return Request("DELETE", address(path, name))


def drawn(job_id: str, caption: int, word: int | None, scale: Literal["word", "caption"]) -> Request:
    """A PNG of a whole caption, or of one word of it."""
    what = "sheet" if word is None else f"words/{word}"
    return Request("GET", f"{address(CAPTIONS, job_id)}/captions/{caption}/{what}.png", params={"scale": scale})


def address(path: str, name: str) -> str:
    """Where a job or batch is; `name` is its id."""
    return f"{path}/{quote(name, safe='')}"


def read_job(content: bytes) -> Job:
    """The job in an answer. Raises NotUnderstood."""
    try:
        data = json.loads(content)
        # A service that is newer may know more options than we do.
        known = (ScoreOptions if data["options"].get("kind") == "score" else CaptionOptions).model_fields
        data["options"] = {name: value for name, value in data["options"].items() if name in known}
        return Job.model_validate(data)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotUnderstood("the answer is not that of a Wordlight") from error


def read(kind: type[Kind], content: bytes) -> Kind:
    """Something else in an answer. Raises NotUnderstood."""
    try:
        return kind.model_validate_json(content)
    except ValueError as error:
        raise NotUnderstood("the answer is not that of a Wordlight") from error


def _content(image: Image) -> tuple[str, bytes]:
    """A name to show and what is in the file."""
    if isinstance(image, bytes):
        return "image", image
    if isinstance(image, str | os.PathLike):
        return Path(image).name, Path(image).read_bytes()
    return Path(str(getattr(image, "name", "image"))).name, image.read()


def _submitting(key: str | None, wait: float) -> dict[str, str]:
    # Without this, scores are waited for.
    prefer = f"wait={int(wait)}" if wait else "respond-async"
    return {"Idempotency-Key": key or uuid.uuid4().hex, "Prefer": prefer}


def _fields(options: CaptionOptions | ScoreOptions | None, webhook_url: str | None) -> dict[str, str]:
    given: dict[str, Any] = options.model_dump(mode="json", exclude_unset=True, exclude={"kind"}) if options else {}
    if webhook_url is not None:
        given["webhook_url"] = webhook_url
    return {name: str(value) for name, value in given.items() if value is not None}
