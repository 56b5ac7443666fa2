"""Requests and answers of the service as plain data. Nothing here sends or receives."""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel

from jobs.job import Batch, Job, JobSummary, Status
from jobs.options import CaptionOptions, ScoreOptions
from wordlight.client.errors import JobFailed, NotUnderstood

Image = bytes | BinaryIO | str | os.PathLike[str]
"""A picture: the bytes of the file, the file opened in binary mode, or its path."""

Model = TypeVar("Model", bound=BaseModel)
WaitedFor = TypeVar("WaitedFor", Job, Batch)

CAPTIONS: Final = "/v1/captions"
SCORES: Final = "/v1/scores"
BATCHES: Final = "/v1/batches"

# The longest time in seconds for which the service delays an answer.
LONGEST_WAIT: Final = 60
# The service sends something in a stream of events every few seconds.
EVENT_TIMEOUT: Final = httpx2.Timeout(30.0)
_TIMEOUT: Final = 30.0  # seconds without a byte


@dataclass(frozen=True, slots=True)
class Request:
    """A request. It holds the bytes of its files, so that it can be repeated."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[tuple[str, tuple[str, bytes]]] = ()
    wait: float = 0.0  # seconds for which the service may delay the answer

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments for httpx2, besides method, URL and headers."""
        return {
            "params": dict(self.params) or None,
            "data": dict(self.fields) or None,
            "files": list(self.files) or None,
            "timeout": httpx2.Timeout(_TIMEOUT, read=_TIMEOUT + self.wait),
        }


class JobPage(BaseModel):
    """A page of a list of jobs."""

    jobs: list[JobSummary]
    next: str | None


def base_url(url: str) -> str:
    """Check the URL of a service and remove trailing slashes. Raises ValueError."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = None
    if parsed is None or parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is not the address of a service, such as http://127.0.0.1:8000")
    return url.rstrip("/")


def headers(api_key: str | None) -> dict[str, str]:
    """Return the headers of all requests."""
    key = os.environ.get("WORDLIGHT_API_KEY", "") if api_key is None else api_key
    return {"Authorization": f"Bearer {key}"} if key else {}


def submission(
    image: Image, options: CaptionOptions | ScoreOptions | None, webhook_url: str | None, key: str | None, wait: float
) -> Request:
    """Submit a picture to be captioned or scored. Raises OSError if it cannot be read.

    `key` is the Idempotency-Key. None makes a new one, so that a repeated request creates no second job.
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
    """Submit pictures, or ZIP archives of pictures. Raises OSError."""
    files = [("images", _content(image)) for image in images]
    return Request("POST", BATCHES, headers=_submitting(key, 0), fields=_fields(options, webhook_url), files=files)


def submission_wait(timeout: float | None) -> float:
    """Return the seconds for which the service may delay the answer to a submission."""
    return LONGEST_WAIT if timeout is None else max(1.0, min(timeout, LONGEST_WAIT))


def lookup(path: str, name: str, *, wait: float = 0.0) -> Request:
    """Look up a job or batch. The service may delay the answer for `wait` seconds until it is over."""
    params = {"wait": str(int(wait))} if wait else {}
    return Request("GET", address(path, name), params=params, wait=wait)


def cancellation(path: str, name: str) -> Request:
    """Cancel a job, or the jobs of a batch, unless they are over."""
    return Request("POST", address(path, name) + "/cancel")


def deletion(path: str, name: str) -> Request:
    """Delete a job or batch."""
    return Request("DELETE", address(path, name))


def drawing(job_id: str, caption: int, word: int | None, scale: Literal["word", "caption"]) -> Request:
    """Ask for a PNG of one word or, if `word` is None, of a whole caption."""
    what = "sheet" if word is None else f"words/{word}"
    return Request("GET", f"{address(CAPTIONS, job_id)}/captions/{caption}/{what}.png", params={"scale": scale})


def address(path: str, name: str) -> str:
    """Return the path of a job or batch; `name` is its id."""
    return f"{path}/{quote(name, safe='')}"


def read_job(content: bytes) -> Job:
    """Read a job from an answer. Raises NotUnderstood."""
    try:
        data = json.loads(content)
        # A newer service may have options that this version does not know.
        known = (ScoreOptions if data["options"].get("kind") == "score" else CaptionOptions).model_fields
        data["options"] = {name: value for name, value in data["options"].items() if name in known}
        return Job.model_validate(data)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotUnderstood("the answer does not come from a Wordlight service") from error


def read(kind: type[Model], content: bytes) -> Model:
    """Read a model from an answer. Raises NotUnderstood."""
    try:
        return kind.model_validate_json(content)
    except ValueError as error:
        raise NotUnderstood("the answer does not come from a Wordlight service") from error


def is_over(waited_for: Job | Batch) -> bool:
    """Return whether a job, or all jobs of a batch, will not change any more."""
    return waited_for.status.terminal if isinstance(waited_for, Job) else waited_for.done


def succeeded(job: Job) -> Job:
    """Return a job with captions. Raises JobFailed if there are none."""
    if job.status is not Status.SUCCEEDED:
        raise JobFailed(job)
    return job


def _content(image: Image) -> tuple[str, bytes]:
    """Return the name and the bytes of a file."""
    if isinstance(image, bytes):
        return "image", image
    if isinstance(image, str | os.PathLike):
        return Path(image).name, Path(image).read_bytes()
    return Path(str(getattr(image, "name", "image"))).name, image.read()


def _submitting(key: str | None, wait: float) -> dict[str, str]:
    # Without respond-async, the service waits for scores.
    prefer = f"wait={int(wait)}" if wait else "respond-async"
    return {"Idempotency-Key": key or uuid.uuid4().hex, "Prefer": prefer}


def _fields(options: CaptionOptions | ScoreOptions | None, webhook_url: str | None) -> dict[str, str]:
    given: dict[str, Any] = options.model_dump(mode="json", exclude_unset=True, exclude={"kind"}) if options else {}
    if webhook_url is not None:
        given["webhook_url"] = webhook_url
    return {name: str(value) for name, value in given.items() if value is not None}
