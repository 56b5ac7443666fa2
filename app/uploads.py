"""From a request to its files and fields, never taking more of it than allowed.

In: a request: a form, a bare file, or JSON; out: spooled files, and the fields beside them. What is in the bytes is for
app/picture.py and app/archives.py to find out, and what the fields mean for app/submissions.py.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, NoReturn, cast

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from app.problems import ProblemError, invalid, unavailable
from app.settings import AppSettings

_IN_MEMORY_BYTES = 1024 * 1024
# What multipart puts around a file: boundaries and part headers.
_MULTIPART_EXTRA_BYTES = 64 * 1024
_MOST_FIELDS = 32
_MOST_FIELD_BYTES = 4096
_MOST_JSON_BYTES = 64 * 1024
# How much of a refused body is still read, and for how long.
_DISCARDED_BODIES = 4
_DISCARD_SECONDS = 5.0

_ARCHIVES = {"application/zip", "application/x-zip-compressed"}


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file of a request, with its name, if it has one, and the SHA-256 of its bytes in hex.

    `bare` is the file that is all of the body, and so what the type of the body says.
    """

    name: str
    file: BinaryIO
    sha256: str
    bare: bool = False


@dataclass(slots=True)
class Upload:
    """What a request holds. The values of fields are text, or in JSON also numbers, booleans and null."""

    files: list[UploadedFile] = field(default_factory=list)
    fields: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a request may hold: so many files in these fields of a form, and so many bytes; or a body of its own."""

    names: tuple[str, ...]
    files: int
    total_bytes: int
    archive: bool


class Uploads:
    """Receives uploads, a bounded number at a time. Larger ones wait on disk, not in memory."""

    def __init__(self, settings: AppSettings) -> None:
        self._settings = settings
        self._receiving = self._batches = 0

    @property
    def receiving(self) -> int:
        """How many uploads are in progress, from their first byte to the end of their decoding."""
        return self._receiving

    def one(self, request: Request) -> AbstractAsyncContextManager[Upload]:
        """The picture in `request`, or none where JSON names it.

        Raises ProblemError: 408 too slow, 413 too large, 415 neither form nor image/* nor JSON, 422 a field that cannot
        be, 400 cut off or malformed, 503 too many uploads at once.
        """
        most = self._settings.max_upload_bytes
        return self._receive(request, Expected(("image",), files=1, total_bytes=most, archive=False))

    def many(self, request: Request) -> AbstractAsyncContextManager[Upload]:
        """The pictures and archives in `request`. Raises what `one` does."""
        files, most = self._settings.max_batch_files, self._settings.max_batch_bytes
        return self._receive(request, Expected(("image", "images"), files=files, total_bytes=most, archive=True))

    @asynccontextmanager
    async def _receive(self, request: Request, expected: Expected) -> AsyncIterator[Upload]:
        body = _Body(request, expected.total_bytes)
        try:
            with self._place(expected):
                async with AsyncExitStack() as files:
                    try:
                        upload = await self._within_time(body, expected, files)
                    except ProblemError as error:
                        raise _Refused(error) from error
                    yield upload
        except _Refused as refused:
            if refused.error.problem.status != 408:  # enough time has been lost with that one
                await body.discard()
            raise refused.error from None

    @contextmanager
    def _place(self, expected: Expected) -> Iterator[None]:
        """A place among those that are received. Raises _Refused where there is none."""
        batches = int(expected.archive)
        if self._receiving >= self._settings.max_uploads or self._batches + batches > self._settings.max_batches:
            raise _Refused(unavailable("busy", "Busy", "too many uploads are being received: try again soon"))
        self._receiving += 1
        self._batches += batches
        try:
            yield
        finally:
            self._receiving -= 1
            self._batches -= batches

    async def _within_time(self, body: "_Body", expected: Expected, files: AsyncExitStack) -> Upload:
        try:
            async with asyncio.timeout(self._settings.upload_seconds):
                return await self._read(body, expected, files)
        except TimeoutError:
            detail = f"the upload did not end within {self._settings.upload_seconds:g} s"
            raise ProblemError("upload-too-slow", "Upload too slow", 408, detail, {"Connection": "close"}) from None
        except ClientDisconnect:
            # Nobody reads this; it keeps a broken connection from being logged as our error.
            raise ProblemError("upload-cut-off", "Upload cut off", 400, "the upload ended too early") from None

    async def _read(self, body: "_Body", expected: Expected, files: AsyncExitStack) -> Upload:
        kind = body.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            return await self._read_multipart(body, expected, files)
        if kind in _ARCHIVES if expected.archive else kind.startswith("image/"):
            return Upload([await self._read_raw(body, files)])
        if kind == "application/json" and not expected.archive:
            return Upload(fields=await self._read_json(body))
        bare = "a ZIP file itself with Content-Type: application/zip"
        if not expected.archive:
            bare = "the file itself with Content-Type: image/*, or JSON with an image_url"
        fields = " or ".join(f"{name!r}" for name in expected.names)
        detail = f"send multipart/form-data with a file in the field {fields}, or {bare}"
        raise ProblemError("unsupported-media-type", "Unsupported media type", 415, detail)

    async def _read_multipart(self, body: "_Body", expected: Expected, files: AsyncExitStack) -> Upload:
        bounded = body.bounded(expected.total_bytes + _MULTIPART_EXTRA_BYTES)
        try:
            # One more, so that a file in a wrong field is told so.
            form = await bounded.form(
                max_files=expected.files + 1, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES
            )
        except HTTPException as error:
            if error.detail.startswith("Too many files"):
                raise too_many_files(expected.files) from error
            raise _malformed(error.detail) from error
        except UnicodeError as error:  # from a charset that no text can be in, which Starlette does not expect
            raise _malformed("the charset of the form cannot be used") from error
        files.push_async_callback(form.close)
        if not all(map(_is_text, chain.from_iterable(form.multi_items()))):
            raise _malformed("there are characters that are none")
        return await self._sorted(body, expected, form)

    async def _sorted(self, body: "_Body", expected: Expected, form: FormData) -> Upload:
        upload, total = Upload(), 0
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and not (value.filename or value.size):
                continue  # so browsers send a field for a file that was left empty
            if isinstance(value, UploadFile) and name in expected.names:
                total += value.size or 0
                if total > body.limit:
                    raise body.too_large()
                if len(upload.files) == expected.files:
                    raise too_many_files(expected.files)
                upload.files.append(await _file(value.file, value.filename or ""))
            elif isinstance(value, UploadFile):
                raise invalid((name, "is not for a file"))
            elif name in expected.names:
                raise _missing(name)
            elif name in upload.fields:
                raise invalid((name, "is given twice"))
            else:
                upload.fields[name] = value
        if not upload.files and "image_url" not in upload.fields:
            raise _missing(expected.names[0])
        return upload

    async def _read_raw(self, body: "_Body", files: AsyncExitStack) -> UploadedFile:
        file = files.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES))  # noqa: SIM115
        async for chunk in body.bounded(body.limit).stream():
            file.write(chunk)
        return replace(await _file(cast(BinaryIO, file), ""), bare=True)

    async def _read_json(self, body: "_Body") -> dict[str, object]:
        text = b""
        async for chunk in body.bounded(_MOST_JSON_BYTES).stream():
            text += chunk
        try:
            pairs = json.loads(text, parse_constant=_no_number, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            raise ProblemError("malformed-json", "Malformed JSON", 400, "the body is not JSON") from error
        if not isinstance(pairs, _Pairs):
            raise ProblemError("malformed-json", "Malformed JSON", 400, "the body is not a JSON object")
        if not all(map(_is_text, chain.from_iterable(pairs))):
            raise ProblemError("malformed-json", "Malformed JSON", 400, "there are characters that are none")
        fields: dict[str, object] = {}
        for name, value in pairs:
            if isinstance(value, list):
                raise invalid((name, "must be text, a number, a boolean or null"))
            if name in fields:
                raise invalid((name, "is given twice"))
            fields[name] = value
        # What is null is not there.
        return {name: value for name, value in fields.items() if value is not None}


async def _file(file: BinaryIO, name: str) -> UploadedFile:
    file.seek(0)
    digest = await asyncio.to_thread(hashlib.file_digest, cast(Any, file), "sha256")
    file.seek(0)
    return UploadedFile(name, file, digest.hexdigest())


def too_many_files(most: int) -> ProblemError:
    """The 422 for a request with more than `most` files."""
    return ProblemError("too-many-files", "Too many files", 422, f"at most {most} may be sent at once")


class _Pairs(list[tuple[str, object]]):
    """A JSON object as it was written."""


class _Refused(Exception):
    """A request whose body is not worth reading on."""

    def __init__(self, error: ProblemError) -> None:
        super().__init__(str(error))
        self.error = error


def _is_text(value: object) -> bool:
    """Whether what is text is proper Unicode: some charsets, and JSON, can write halves of surrogate pairs."""
    if isinstance(value, UploadFile):
        value = value.filename
    return not isinstance(value, str) or not any("\ud800" <= character <= "\udfff" for character in value)


def _missing(name: str) -> ProblemError:
    return invalid((name, "there is no file in this field"), kind="image-missing", title="Image missing")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _malformed(detail: str) -> ProblemError:
    return ProblemError("malformed-multipart", "Malformed multipart body", 400, detail)


class _Body:
    """The body of a request, read no further than allowed, whether or not its length was told (truly)."""

    def __init__(self, request: Request, limit: int) -> None:
        self.request = request
        self.limit = limit  # of the file, or of all files together
        self._most = limit
        self._received = 0
        self._begun = self._ended = False

    def bounded(self, most: int) -> Request:
        """The request, but that reading more than `most` bytes of its body raises the 413."""
        self._most = most
        if int(self.request.headers.get("content-length", 0)) > most:
            raise self.too_large()
        return Request(self.request.scope, self._receive)

    async def discard(self) -> None:
        """Read on for a while before the body is refused: a client that is still sending would not see our answer."""
        if not self._begun and "expect" in self.request.headers:
            return  # it asks before it sends, and our answer is: no
        self._most = _DISCARDED_BODIES * self.limit
        with suppress(ProblemError, TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self._ended:
                    await self._receive()

    def too_large(self) -> ProblemError:
        """The 413."""
        detail = f"the upload is larger than {min(self.limit, self._most):,} bytes"
        return ProblemError("image-too-large", "Image too large", 413, detail, {"Connection": "close"})

    async def _receive(self) -> Message:
        self._begun = True
        message = await self.request.receive()
        self._ended = not message.get("more_body", False)  # true of a disconnect as well
        self._received += len(message.get("body", b""))
        if self._received > self._most:
            raise self.too_large()
        return message
