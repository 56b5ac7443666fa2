"""From a request to one image file, never taking more of it than allowed.

In: a request, multipart or raw; out: a spooled file. What is in the bytes is for app/picture.py to find out.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from app.problems import ProblemError, unavailable
from app.settings import AppSettings

_IN_MEMORY_BYTES = 1024 * 1024
# What multipart puts around a file: boundaries and part headers.
_MULTIPART_EXTRA_BYTES = 64 * 1024
# How much of a refused body is still read, and for how long.
_DISCARDED_BODIES = 4
_DISCARD_SECONDS = 5.0


class Uploads:
    """Receives uploads, a bounded number at a time. Larger ones wait on disk, not in memory."""

    def __init__(self, settings: AppSettings) -> None:
        self._settings = settings
        self._receiving = 0

    @property
    def receiving(self) -> int:
        """How many uploads are in progress, from their first byte to the end of their decoding."""
        return self._receiving

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[BinaryIO]:
        """The image in `request`, as an open file.

        Raises ProblemError: 408 too slow, 413 too large, 415 neither multipart nor image/*, 422 no such field, 400 cut
        off or malformed, 503 too many uploads at once.
        """
        body = _Body(request, self._settings.max_upload_bytes)
        self._receiving += 1
        try:
            async with AsyncExitStack() as files:
                try:
                    if self._receiving > self._settings.max_uploads:
                        raise unavailable("busy", "Busy", "too many uploads are being received: try again soon")
                    file = await self._within_time(body, files)
                except ProblemError as error:
                    if error.problem.status != 408:  # enough time has been lost with that one
                        await body.discard()
                    raise
                yield file
        finally:
            self._receiving -= 1

    async def _within_time(self, body: "_Body", files: AsyncExitStack) -> BinaryIO:
        try:
            async with asyncio.timeout(self._settings.upload_seconds):
                return await self._read(body, files)
        except TimeoutError:
            detail = f"the upload did not end within {self._settings.upload_seconds:g} s"
            raise ProblemError("upload-too-slow", "Upload too slow", 408, detail, {"Connection": "close"}) from None
        except ClientDisconnect:
            # Nobody reads this; it keeps a broken connection from being logged as our error.
            raise ProblemError("upload-cut-off", "Upload cut off", 400, "the upload ended too early") from None

    async def _read(self, body: "_Body", files: AsyncExitStack) -> BinaryIO:
        kind = body.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            return await self._read_multipart(body, files)
        if kind.startswith("image/"):
            return await self._read_raw(body, files)
        raise ProblemError(
            "unsupported-media-type",
            "Unsupported media type",
            415,
            "send multipart/form-data with a file in the field 'image', or the file itself with Content-Type: image/*",
        )

    async def _read_multipart(self, body: "_Body", files: AsyncExitStack) -> BinaryIO:
        bounded = body.bounded(self._settings.max_upload_bytes + _MULTIPART_EXTRA_BYTES)
        try:
            form = await bounded.form(max_files=1, max_fields=8)
        except HTTPException as error:
            raise ProblemError("malformed-multipart", "Malformed multipart body", 400, error.detail) from error
        files.push_async_callback(form.close)
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise ProblemError("image-missing", "Image missing", 422, "the form has no file in the field 'image'")
        if (image.size or 0) > self._settings.max_upload_bytes:
            raise body.too_large()
        return image.file

    async def _read_raw(self, body: "_Body", files: AsyncExitStack) -> BinaryIO:
        file = files.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES))  # noqa: SIM115
        async for chunk in body.bounded(self._settings.max_upload_bytes).stream():
            file.write(chunk)
        file.seek(0)
        return cast(BinaryIO, file)


class _Body:
    """The body of a request, read no further than allowed, whether or not its length was told (truly)."""

    def __init__(self, request: Request, limit: int) -> None:
        self.request = request
        self._limit = limit
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
        self._most = _DISCARDED_BODIES * self._limit
        with suppress(ProblemError, TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self._ended:
                    await self._receive()

    def too_large(self) -> ProblemError:
        """The 413."""
        detail = f"the file is larger than {self._limit:,} bytes"
        return ProblemError("image-too-large", "Image too large", 413, detail, {"Connection": "close"})

    async def _receive(self) -> Message:
        self._begun = True
        message = await self.request.receive()
        self._ended = not message.get("more_body", False)  # true of a disconnect as well
        self._received += len(message.get("body", b""))
        if self._received > self._most:
            raise self.too_large()
        return message
