"""From a request to its files and fields, never taking more of it than allowed.

In: a request, as a form, as JSON or as a bare file; out: an Upload. What its fields mean and what is in its files is
for others to find out.
"""

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
from app.uploads.fields import form_fields, json_fields
from app.uploads.file_name import shown_name
from app.uploads.multipart import FIELDS_BYTES, read_form

log = logging.getLogger(__name__)

_IN_MEMORY_BYTES: Final = 1024 * 1024  # for each upload
_JSON_BYTES: Final = 64 * 1024
_ZIP_TYPES: Final = ("application/zip", "application/x-zip-compressed")
_FORM: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file as it was sent, open as long as its upload is. Its name is to be shown, and no path.

    `archive` says that it was announced as a ZIP archive, whatever it is.
    """

    name: str
    file: BinaryIO
    size: int
    sha256: str
    archive: bool = False

    @classmethod
    async def of(cls, sent: UploadFile, archive: bool = False) -> Self:
        """The file that was received as `sent`, at its beginning. Its digest (hexadecimal) is computed in a thread."""
        await sent.seek(0)
        digest = await asyncio.to_thread(hashlib.file_digest, sent.file, "sha256")  # type: ignore[arg-type]
        await sent.seek(0)
        return cls(shown_name(sent.filename or ""), sent.file, sent.size or 0, digest.hexdigest(), archive)


@dataclass(frozen=True, slots=True)
class Upload:
    """All of one request. The values of fields are text, or in JSON also finite numbers and booleans."""

    files: Sequence[UploadedFile]
    fields: Mapping[str, object]


_Read = Callable[[Body, AsyncExitStack], Awaitable[Upload]]


class Uploads:
    """Receives uploads, a bounded number at a time. Larger ones wait on disk, not in memory."""

    def __init__(self, settings: AppSettings, batches: int = 4, batch_seconds: float = 300) -> None:
        """`batches` is how many requests with several files may come at once, `batch_seconds` how long one may last.

        They are fewer and slower than those with one: each may put `max_batch_bytes` on the disk.
        """
        self._settings = settings
        self._batch_seconds = batch_seconds
        self._singles = _Places(settings.max_uploads)
        self._batches = _Places(batches)

    @property
    def receiving(self) -> int:
        """How many uploads are in progress, from their first byte to the end of their decoding."""
        return self._singles.taken + self._batches.taken

    def one(self, request: Request) -> AbstractAsyncContextManager[Upload]:
        """The file in `request`, or none where a field names it, and the fields.

        A form with a file in the field `image`, JSON, or an image/* body, which has no fields. Raises ProblemError: 408
        too slow, 413 too large, 415 none of these, 422 a field that cannot be, 400 cut off or malformed, 503 too many
        uploads at once.
        """
        settings = self._settings
        return _received(request, self._singles, settings.upload_seconds, settings.max_upload_bytes, self._read_one)

    def many(self, request: Request) -> AbstractAsyncContextManager[Upload]:
        """The files in `request`, at least one, and the fields.

        A form with files in the fields `images` or `image`, or a ZIP archive as the body. Any file may be an archive,
        so that none is too large alone. Raises what `one` does.
        """
        most = self._settings.max_batch_bytes
        return _received(request, self._batches, self._batch_seconds, most, self._read_many)

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
            f"send {_FORM} with a file in the field 'image', the file itself with Content-Type: image/*, or "
            "application/json with an image_url"
        )

    async def _read_many(self, body: Body, files: AsyncExitStack) -> Upload:
        most = self._settings.max_batch_bytes
        refusal = too_large("request-too-large", "request", most)
        if body.media_type == _FORM:
            names, max_files = ("images", "image"), self._settings.max_batch_files
            upload = await _read_form(body.bounded(most, refusal), files, names, max_files)
            if not upload.files:
                raise _image_missing("images", "there is no file in this field")
            return upload
        if body.media_type in _ZIP_TYPES:
            return await _read_file(body.bounded(most, refusal), files, archive=True)
        raise _unsupported(
            f"send {_FORM} with files in the field 'images', or a ZIP archive with Content-Type: application/zip"
        )


class _Places:
    """How many uploads there may be at once, and are."""

    def __init__(self, number: int) -> None:
        self.taken = 0
        self._number = number

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for a while. Raises the 503 if there is none."""
        if self.taken >= self._number:
            raise unavailable("busy", "Busy", "too many uploads are being received: try again soon")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@asynccontextmanager
async def _received(request: Request, places: _Places, seconds: float, most: int, read: _Read) -> AsyncIterator[Upload]:
    """What `read` makes of the request, unless there is no place for it or it takes too long."""
    body = Body(request)
    async with AsyncExitStack() as files:
        try:
            files.enter_context(places.one())
            upload = await _within_time(body, files, seconds, read)
        except ProblemError as error:
            if error.problem.status != 408:  # enough time has been lost with that one
                await body.discard(most)
            raise
        yield upload


async def _within_time(body: Body, files: AsyncExitStack, seconds: float, read: _Read) -> Upload:
    try:
        async with asyncio.timeout(seconds):
            return await read(body, files)
    except TimeoutError:
        detail = f"the upload did not end within {seconds:g} s"
        raise ProblemError("upload-too-slow", "Upload too slow", 408, detail, {"Connection": "close"}) from None
    except ClientDisconnect:
        # Nobody reads this; it keeps a broken connection from being logged as our error.
        raise ProblemError("upload-cut-off", "Upload cut off", 400, "the upload ended too early") from None
    except OSError as error:
        log.error("An upload cannot be stored: %s", error)
        raise unavailable("storage-failed", "Storage failed", "the upload cannot be stored: try again soon") from None


async def _read_form(request: Request, files: AsyncExitStack, names: tuple[str, ...], max_files: int) -> Upload:
    """The form in `request`, with at most `max_files` files, all of them in the fields of these names."""
    form = await read_form(request.headers["content-type"], request.stream(), max_files, _IN_MEMORY_BYTES)
    files.push_async_callback(form.close)
    sent: list[UploadFile] = []
    texts: list[tuple[str, str]] = []
    for name, part in form.multi_items():
        if isinstance(part, UploadFile):
            if not (part.filename or part.size):
                continue  # a file input that was left empty
            if name not in names:
                raise _image_missing(name, f"is for no file: send it in the field '{names[0]}'")
            sent.append(part)
        elif name in names:  # with curl, an @ is missing
            raise _image_missing(name, "is text, and not a file")
        else:
            texts.append((name, part))
    fields = form_fields(texts)
    return Upload([await UploadedFile.of(file) for file in sent], fields)


async def _read_file(request: Request, files: AsyncExitStack, *, archive: bool = False) -> Upload:
    """The body of `request` as a file."""
    sent = UploadFile(cast(BinaryIO, SpooledTemporaryFile(_IN_MEMORY_BYTES)), size=0)  # noqa: SIM115
    files.push_async_callback(_close, sent)
    async for chunk in request.stream():
        await sent.write(chunk)
    return Upload([await UploadedFile.of(sent, archive)], {})


async def _close(sent: UploadFile) -> None:
    with suppress(OSError):  # a full disk was noticed before
        await sent.close()


def _image_missing(field: str, message: str) -> ProblemError:
    return invalid((field, message), kind="image-missing", title="Image missing")


def _unsupported(detail: str) -> ProblemError:
    return ProblemError("unsupported-media-type", "Unsupported media type", 415, detail)
