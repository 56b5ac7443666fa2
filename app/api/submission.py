"""Turns requests into jobs: checks options, decodes or fetches pictures, and submits them to the queue."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, BinaryIO, TypeVar

from fastapi import Header, Request
from pydantic import ValidationError

from app.access.middleware import Caller
from app.images.decoder import DecoderBusy
from app.images.picture import PictureRefused
from app.outbound.address_rules import AddressRefused
from app.outbound.http_client import FetchFailed, FileTooLarge
from app.problems import ProblemError, invalid, unavailable
from app.services import Services
from app.uploads.receiver import Upload
from jobs.options import CaptionOptions, ScoreOptions
from jobs.problem import Problem
from jobs.producer import File, KeyReused, Picture, QueueFull, Submission

_REFUSAL_STATUS = {"unsupported-format": 415, "undecodable-image": 422, "too-many-pixels": 422}
_NOT_OPTIONS = ("image_url", "webhook_url")

Prefer = Annotated[
    list[str], Header(description="`wait=N` waits up to N seconds for the end; `respond-async` does not wait")
]
IdempotencyKey = Annotated[
    str,
    Header(
        max_length=255,
        description="any text; a repeated request with the same key creates no second job while the first can be read",
    ),
]

Options = TypeVar("Options", CaptionOptions, ScoreOptions)


@asynccontextmanager
async def submitted_picture(
    request: Request, services: Services, caller: Caller, kind: type[Options], idempotency: str
) -> AsyncIterator[tuple[Submission, Picture]]:
    """Read a request with one picture: its submission and working image. Raises ProblemError."""
    await services.rate_limits.consume(caller, 1)
    async with services.uploads.receive_one(request) as upload:
        fields = _fields(request, upload)
        submission = _submission(request, services, caller, _options(kind, fields), fields, upload, idempotency)
        url = str(fields.get("image_url") or "")
        if url and upload.files:
            raise invalid(("image_url", "cannot be combined with a file"))
        if upload.files:
            picture = await decode(services, upload.files[0].file)
        elif url:
            picture = await _fetch(services, url)
        else:
            raise invalid(("image", "has no file"), kind="image-missing", title="Image missing")
    if isinstance(picture, Problem):
        raise ProblemError.of(picture)
    yield submission, picture


def batch_submission(
    request: Request, services: Services, caller: Caller, upload: Upload, idempotency: str
) -> Submission:
    """Read the submission of a request with several pictures. Raises ProblemError."""
    fields = _fields(request, upload)
    if "image_url" in fields:
        raise invalid(("image_url", "is not supported in batches"))
    options = _options(CaptionOptions, fields)
    return _submission(request, services, caller, options, fields, upload, idempotency)


async def decode(services: Services, file: BinaryIO) -> Picture | Problem:
    """Make the working image of a file, or return the problem of a refused one. Raises a 503 if the decoder is busy."""
    try:
        image = await services.decoder.prepare(file)
    except PictureRefused as refused:
        title = refused.reason.replace("-", " ").capitalize()
        return Problem.of(refused.reason, title, _REFUSAL_STATUS[refused.reason], refused.detail)
    except DecoderBusy:
        raise unavailable("busy", "Busy", "Too many pictures are being decoded. Try again soon.") from None
    return Picture(image.data, image.width, image.height)


async def submit_job(services: Services, submission: Submission, picture: Picture) -> str:
    """Submit a job to the queue and return its id. Raises ProblemError."""
    try:
        return await services.producer.submit(submission, picture)
    except (QueueFull, KeyReused) as error:
        raise _submission_problem(error) from None


async def submit_batch(services: Services, submission: Submission, files: Sequence[File]) -> str:
    """Submit a batch to the queue and return its id. Raises ProblemError."""
    try:
        return await services.producer.submit_batch(submission, files)
    except (QueueFull, KeyReused) as error:
        raise _submission_problem(error) from None


def _submission_problem(error: QueueFull | KeyReused) -> ProblemError:
    if isinstance(error, QueueFull):
        return unavailable("queue-full", "Queue full", "The queue is full. Try again soon.")
    detail = "This Idempotency-Key was used for another request."
    return ProblemError("idempotency-key-reused", "Idempotency-Key reused", 422, detail)


async def _fetch(services: Services, url: str) -> Picture | Problem:
    if not services.settings.image_urls:
        raise invalid(("image_url", "is disabled on this service (WORDLIGHT_IMAGE_URLS)"))
    try:
        file = await services.outbound.fetch(url, services.settings.max_upload_bytes)
    except AddressRefused as refused:
        raise invalid(("image_url", str(refused)), kind="address-refused", title="Address refused") from None
    except FileTooLarge as failed:
        raise ProblemError("image-too-large", "Image too large", 413, f"image_url: {failed}") from None
    except FetchFailed as failed:
        raise invalid(("image_url", str(failed)), kind="fetch-failed", title="Fetch failed") from None
    with file:
        return await decode(services, file)


def _fields(request: Request, upload: Upload) -> dict[str, object]:
    """Combine the fields of a form or JSON body with the query, which has the options of a bare file."""
    fields = dict(upload.fields)
    for name, value in request.query_params.multi_items():
        if name in fields:
            raise invalid((name, "is given twice"))
        fields[name] = value
    return fields


def _options(kind: type[Options], fields: Mapping[str, object]) -> Options:
    given = {name: value for name, value in fields.items() if name not in _NOT_OPTIONS}
    # The route sets the kind. If the client sends one, an invalid value makes the validation refuse the field.
    given["kind"] = kind.model_fields["kind"].default if "kind" not in given else "is not a field"
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        errors = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        raise invalid(*errors) from None


def _submission(
    request: Request,
    services: Services,
    caller: Caller,
    options: CaptionOptions | ScoreOptions,
    fields: Mapping[str, object],
    upload: Upload,
    idempotency: str,
) -> Submission:
    if options.expires_in and options.expires_in > services.settings.job_lifetime_seconds:
        raise invalid(("expires_in", f"may be at most {services.settings.job_lifetime_seconds}"))
    request_text = json.dumps([request.scope["path"], sorted((name, str(value)) for name, value in fields.items())])
    digests = "".join(file.sha256 for file in upload.files)
    return Submission(
        options=options,
        owner=caller.key_id,
        request_id=request.state.request_id,
        webhook_url=_webhook(services, fields),
        idempotency=idempotency,
        fingerprint=hashlib.sha256(f"{digests} {request_text}".encode()).hexdigest(),
    )


def _webhook(services: Services, fields: Mapping[str, object]) -> str:
    url = fields.get("webhook_url")
    if url is None:
        return ""
    if services.settings.webhook_secret is None:
        raise invalid(("webhook_url", "is disabled on this service (WORDLIGHT_WEBHOOK_SECRET)"))
    try:
        services.outbound.check(str(url))
    except AddressRefused as refused:
        raise invalid(("webhook_url", str(refused)), kind="address-refused", title="Address refused") from None
    return str(url)
