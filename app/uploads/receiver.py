"""Receives a request's files and fields: a form, JSON, or a bare file, within bounds of size, time and number."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, Self, cast

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from app.problems import ProblemError, invalid, unavailable
from app.settings import AppSettings
from app.uploads.body import Body, too_large
from app.uploads.fields import display_name, form_fields, json_fields
from app.uploads.multipart import FIELDS_BYTES, read_form

log = logging.getLogger(__name__)

_IN_MEMORY_BYTES: Final = 1024 * 1024  # for each upload
_JSON_BYTES: Final = 64 * 1024
_ZIP_TYPES: Final = ("application/zip", "application/x-zip-compressed")
_FORM: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A received file, open as long as its upload. Its name is for display only and never a path.

    `archive` says whether the client declared it as a ZIP archive.
    """

    name: str
    file: BinaryIO
    size: int
    sha256: str
    archive: bool = False

    @classmethod
    async def of(cls, sent: UploadFile, archive: bool = False) -> Self:
        """Rewind a received file and compute its SHA-256 (hexadecimal) in a thread."""
        await sent.seek(0)
        digest = await asyncio.to_thread(hashlib.file_digest, sent.file, "sha256")  # type: ignore[arg-type]
        await sent.seek(0)
        return cls(display_name(sent.filename or ""), sent.file, sent.size or 0, digest.hexdigest(), archive)


@dataclass(frozen=True, slots=True)
class Upload:
    """The files and fields of one request. Values are text or, from JSON, also finite numbers and booleans."""

    files: Sequence[UploadedFile]
    fields: Mapping[str, object]


_Read = Callable[[Body, AsyncExitStack], Awaitable[Upload]]


class UploadReceiver:
    """Receives a bounded number of uploads at the same time. Large ones are stored on disk, not in memory."""

    def __init__(self, settings: AppSettings) -> None:
        self._settings = settings
        self._single_slots = _Slots(settings.max_uploads)
        self._batch_slots = _Slots(settings.max_batches)

    @property
    def receiving(self) -> int:
        """The number of uploads in progress, from their first byte to the end of their decoding."""
        return self._single_slots.taken + self._batch_slots.taken

    def receive_one(self, request: Request) -> AbstractAsyncContextManager[Upload]:
        """Receive at most one file and the fields of a request.

        The body is a form with a file in the field `image`, JSON, or image/*, which has no fields. Raises ProblemError:
        400 truncated or malformed, 408 too slow, 413 too large, 415 another media type, 422 an invalid field, 503 too
        many uploads.
        """
        settings = self._settings
        most = settings.max_upload_bytes
        return _receive(request, self._single_slots, settings.upload_seconds, most, self._read_one)

    def receive_batch(self, request: Request) -> AbstractAsyncContextManager[Upload]:
        """Receive the files, at least one, and the fields of a request.

        The body is a form with files in the fields `images` or `image`, or a ZIP archive. Only their total size is
        bounded here, because any file may be an archive. Raises what `receive_one` raises.
        """
        settings = self._settings
        most = settings.max_batch_bytes
        return _receive(request, self._batch_slots, settings.batch_seconds, most, self._read_many)

    async def _read_one(self, body: Body, files: AsyncExitStack) -> Upload:
        most = self._settings.max_upload_bytes
        refusal = too_large("image-too-large", "file", most)
        if body.media_type == _FORM:
            upload = await _read_form(body.bounded(most + FIELDS_BYTES, refusal), files, ("image",), 1)
            if any(file.size > most for file in upload.files):
                raise refusal
            return upload
        if body.media_type == "application/json":
            bounded = body.bounded(_JSON_BYTES, too_large("request-too-large", "JSON body", _JSON_BYTES))
            return Upload([], json_fields(await bounded.body()))
        if body.media_type.startswith("image/"):
            return await _read_file(body.bounded(most, refusal), files)
        raise _unsupported(
            f"Send {_FORM} with a file in the field 'image', the file itself with Content-Type: image/*, or "
            "application/json with an image_url."
        )

    async def _read_many(self, body: Body, files: AsyncExitStack) -> Upload:
        most = self._settings.max_batch_bytes
        refusal = too_large("request-too-large", "request", most)
        if body.media_type == _FORM:
            names, max_files = ("images", "image"), self._settings.max_batch_files
            upload = await _read_form(body.bounded(most, refusal), files, names, max_files)
            if not upload.files:
                raise _image_missing("images", "has no file")
            return upload
        if body.media_type in _ZIP_TYPES:
            return await _read_file(body.bounded(most, refusal), files, archive=True)
        raise _unsupported(
            f"Send {_FORM} with files in the field 'images', or a ZIP archive with Content-Type: application/zip."
        )


class _Slots:
    """Counts concurrent uploads up to a maximum."""

    def __init__(self, number: int) -> None:
        self.taken = 0
        self._number = number

    @contextmanager
    def take(self) -> Iterator[None]:
        """Occupy a slot during the block. Raises the 503 if all are taken."""
        if self.taken >= self._number:
            raise unavailable("busy", "Busy", "Too many uploads are in progress. Try again soon.")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@asynccontextmanager
async def _receive(request: Request, slots: _Slots, seconds: float, most: int, read: _Read) -> AsyncIterator[Upload]:
    """Take a slot and read the request within `seconds`."""
    body = Body(request)
    async with AsyncExitStack() as files:
        try:
            files.enter_context(slots.take())
            upload = await _read_in_time(body, files, seconds, read)
        except ProblemError as error:
            if error.problem.status != 408:  # a slow client gets no more time
                await body.discard(most)
            raise
        yield upload


async def _read_in_time(body: Body, files: AsyncExitStack, seconds: float, read: _Read) -> Upload:
    try:
        async with asyncio.timeout(seconds):
            return await read(body, files)
    except TimeoutError:
        detail = f"The upload was not complete within {seconds:g} s."
        raise ProblemError("upload-too-slow", "Upload too slow", 408, detail, {"Connection": "close"}) from None
    except ClientDisconnect:
        # Nobody receives this answer. It keeps the disconnect out of the error log.
        raise ProblemError("upload-incomplete", "Upload incomplete", 400, "The upload ended too early.") from None
    except OSError as error:
        log.error("Cannot store an upload: %s", error)
        raise unavailable("storage-failed", "Storage failed", "The upload cannot be stored. Try again soon.") from None


async def _read_form(request: Request, files: AsyncExitStack, names: tuple[str, ...], max_files: int) -> Upload:
    """Read a form with at most `max_files` files, all of them in the fields `names`."""
    form = await read_form(request.headers["content-type"], request.stream(), max_files, _IN_MEMORY_BYTES)
    files.push_async_callback(form.close)
    sent: list[UploadFile] = []
    texts: list[tuple[str, str]] = []
    for name, part in form.multi_items():
        if isinstance(part, UploadFile):
            if not (part.filename or part.size):
                continue  # an empty file input of a browser
            if name not in names:
                raise _image_missing(name, f"takes no file; send it in the field '{names[0]}'")
            sent.append(part)
        elif name in names:  # as `curl -F image=photo.jpg`, without the @
            raise _image_missing(name, "is text, not a file")
        else:
            texts.append((name, part))
    fields = form_fields(texts)
    return Upload([await UploadedFile.of(file) for file in sent], fields)


async def _read_file(request: Request, files: AsyncExitStack, *, archive: bool = False) -> Upload:
    """Read the whole body as a file."""
    sent = UploadFile(cast(BinaryIO, SpooledTemporaryFile(_IN_MEMORY_BYTES)), size=0)  # noqa: SIM115
    files.push_async_callback(_close, sent)
    async for chunk in request.stream():
        await sent.write(chunk)
    return Upload([await UploadedFile.of(sent, archive)], {})


async def _close(sent: UploadFile) -> None:
    with suppress(OSError):  # a full disk has been reported already
        await sent.close()


def _image_missing(field: str, message: str) -> ProblemError:
    return invalid((field, message), kind="image-missing", title="Image missing")


def _unsupported(detail: str) -> ProblemError:
    return ProblemError("unsupported-media-type", "Unsupported media type", 415, detail)
