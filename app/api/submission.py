"""From a request to jobs: what it asks for, checked; its pictures, decoded; all of it handed to the queue.

In: requests of clients that were let in; out: jobs and batches, or a ProblemError that says what was wrong. It must not
know how bytes are received, how pictures are decoded, or what the queue does.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, BinaryIO, TypeVar

from fastapi import Header, Request
from pydantic import ValidationError

from app.access.caller import Caller
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

_REFUSED_STATUS = {"unsupported-format": 415, "undecodable-image": 422, "too-many-pixels": 422}
_NOT_OPTIONS = ("image_url", "webhook_url")

Prefer = Annotated[list[str], Header(description="`wait=N`: wait up to N seconds for the end; `respond-async`: do not")]
IdempotencyKey = Annotated[
    str,
    Header(
        max_length=255,
        description="any text; the same request sent again with the same key makes no second job while the first "
        "can be read",
    ),
]

Wish = TypeVar("Wish", CaptionOptions, ScoreOptions)


@asynccontextmanager
async def one_picture(
    request: Request, services: Services, caller: Caller, kind: type[Wish], idempotency: str
) -> AsyncIterator[tuple[Submission, Picture]]:
    """What a request with one picture asks for, and its working image. Raises ProblemError."""
    await services.limits.spend(caller, 1)
    async with services.uploads.one(request) as upload:
        fields = _fields(request, upload)
        submission = _submission(request, services, caller, _options(kind, fields), fields, upload, idempotency)
        url = str(fields.get("image_url") or "")
        if url and upload.files:
            raise invalid(("image_url", "there is a file already"))
        if upload.files:
            picture = await decoded(services, upload.files[0].file)
        elif url:
            picture = await _fetched(services, url)
        else:
            raise invalid(("image", "there is no file in this field"), kind="image-missing", title="Image missing")
    if isinstance(picture, Problem):
        raise ProblemError.of(picture)
    yield submission, picture


def batch_submission(
    request: Request, services: Services, caller: Caller, upload: Upload, idempotency: str
) -> Submission:
    """What a request with several pictures asks for. Raises ProblemError."""
    fields = _fields(request, upload)
    if "image_url" in fields:
        raise invalid(("image_url", "is for single pictures only"))
    options = _options(CaptionOptions, fields)
    return _submission(request, services, caller, options, fields, upload, idempotency)


async def decoded(services: Services, file: BinaryIO) -> Picture | Problem:
    """The working image in a file, or why there is none. Raises the 503 when too much is being decoded."""
    try:
        image = await services.decoder.prepare(file)
    except PictureRefused as refused:
        title = refused.reason.replace("-", " ").capitalize()
        return Problem.of(refused.reason, title, _REFUSED_STATUS[refused.reason], refused.detail)
    except DecoderBusy:
        raise unavailable("busy", "Busy", "too many pictures are being decoded: try again soon") from None
    return Picture(image.data, image.width, image.height)


async def submitted(services: Services, submission: Submission, picture: Picture) -> str:
    """The id of the job that the queue has taken in. Raises ProblemError."""
    try:
        return await services.producer.submit(submission, picture)
    except (QueueFull, KeyReused) as error:
        raise not_taken(error) from None


async def submitted_batch(services: Services, submission: Submission, files: Sequence[File]) -> str:
    """The id of the batch that the queue has taken in. Raises ProblemError."""
    try:
        return await services.producer.submit_batch(submission, files)
    except (QueueFull, KeyReused) as error:
        raise not_taken(error) from None


def not_taken(error: QueueFull | KeyReused) -> ProblemError:
    """Why the queue did not take a request in."""
    if isinstance(error, QueueFull):
        return unavailable("queue-full", "Queue full", "as many jobs as may are waiting: try again soon")
    detail = "this Idempotency-Key came with another request before"
    return ProblemError("idempotency-key-reused", "Idempotency-Key reused", 422, detail)


async def _fetched(services: Services, url: str) -> Picture | Problem:
    if not services.settings.image_urls:
        raise invalid(("image_url", "this service does not fetch pictures (WORDLIGHT_IMAGE_URLS is not set)"))
    try:
        file = await services.outbound.fetch(url, services.settings.max_upload_bytes)
    except AddressRefused as refused:
        raise invalid(("image_url", str(refused)), kind="address-refused", title="Address refused") from None
    except FileTooLarge as failed:
        raise ProblemError("image-too-large", "Image too large", 413, str(failed)) from None
    except FetchFailed as failed:
        raise invalid(("image_url", str(failed)), kind="fetch-failed", title="Fetch failed") from None
    with file:
        return await decoded(services, file)


def _fields(request: Request, upload: Upload) -> dict[str, object]:
    """The fields of the form or JSON body and those of the query, which serves bodies that are nothing but a file."""
    fields = dict(upload.fields)
    for name, value in request.query_params.multi_items():
        if name in fields:
            raise invalid((name, "is given twice"))
        fields[name] = value
    return fields


def _options(kind: type[Wish], fields: Mapping[str, object]) -> Wish:
    given = {name: value for name, value in fields.items() if name not in _NOT_OPTIONS}
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
        raise invalid(("expires_in", f"may be {services.settings.job_lifetime_seconds} at most"))
    asked = json.dumps([request.scope["path"], sorted((name, str(value)) for name, value in fields.items())])
    digests = "".join(file.sha256 for file in upload.files)
    return Submission(
        options=options,
        owner=caller.key_id,
        request_id=request.state.request_id,
        webhook_url=_webhook(services, fields),
        idempotency=idempotency,
        fingerprint=hashlib.sha256(f"{digests} {asked}".encode()).hexdigest(),
    )


def _webhook(services: Services, fields: Mapping[str, object]) -> str:
    url = fields.get("webhook_url")
    if url is None:
        return ""
    if services.settings.webhook_secret is None:
        raise invalid(("webhook_url", "this service sends no webhooks (WORDLIGHT_WEBHOOK_SECRET is not set)"))
    try:
        services.outbound.check(str(url))
    except AddressRefused as refused:
        raise invalid(("webhook_url", str(refused)), kind="address-refused", title="Address refused") from None
    return str(url)
