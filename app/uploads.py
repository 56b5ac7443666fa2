"""From a request to one image file, never taking more of it than allowed.

In: a request, multipart or raw; out: a spooled file. What is in the bytes is for app/picture.py to find out.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from app.problems import ProblemError, unavailable
from app.settings import AppSettings

_IN_MEMORY_BYTES = 1024 * 1024
# What multipart puts around a file: boundaries and part headers.
_MULTIPART_EXTRA_BYTES = 64 * 1024


class Uploads:
    """Receives uploads, a bounded number at a time. Larger ones wait on disk, not in memory."""

    def __init__(self, settings: AppSettings) -> None:
        self._settings = settings
        self._receiving = 0

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[BinaryIO]:
        """The image in `request`, as an open file.

        Raises ProblemError: 408 too slow, 413 too large, 415 neither multipart nor image/*, 422 no such field, 400 cut
        off or malformed, 503 too many uploads at once.
        """
        if self._receiving >= self._settings.max_uploads:
            raise unavailable("busy", "Busy", "too many uploads are being received: try again soon")
        self._receiving += 1
        try:
            async with AsyncExitStack() as files:
                yield await self._within_time(request, files)
        finally:
            self._receiving -= 1

    async def _within_time(self, request: Request, files: AsyncExitStack) -> BinaryIO:
        try:
            async with asyncio.timeout(self._settings.upload_seconds):
                return await self._read(request, files)
        except TimeoutError:
            detail = f"the upload did not end within {self._settings.upload_seconds:g} s"
            raise ProblemError("upload-too-slow", "Upload too slow", 408, detail, {"Connection": "close"}) from None
        except ClientDisconnect:
            # Nobody reads this; it keeps a broken connection from being logged as our error.
            raise ProblemError("upload-cut-off", "Upload cut off", 400, "the upload ended too early") from None

    async def _read(self, request: Request, files: AsyncExitStack) -> BinaryIO:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            return await self._read_multipart(request, files)
        if kind.startswith("image/"):
            return await self._read_raw(request, files)
        raise ProblemError(
            "unsupported-media-type",
            "Unsupported media type",
            415,
            "send multipart/form-data with a file in the field 'image', or the file itself with Content-Type: image/*",
        )

    async def _read_multipart(self, request: Request, files: AsyncExitStack) -> BinaryIO:
        most = self._settings.max_upload_bytes + _MULTIPART_EXTRA_BYTES
        try:
            form = await Request(request.scope, self._bounded(request, most)).form(max_files=1, max_fields=8)
        except HTTPException as error:
            raise ProblemError("malformed-multipart", "Malformed multipart body", 400, error.detail) from error
        files.push_async_callback(form.close)
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise ProblemError("image-missing", "Image missing", 422, "the form has no file in the field 'image'")
        if (image.size or 0) > self._settings.max_upload_bytes:
            raise self._too_large()
        return image.file

    async def _read_raw(self, request: Request, files: AsyncExitStack) -> BinaryIO:
        bounded = Request(request.scope, self._bounded(request, self._settings.max_upload_bytes))
        file = files.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES))  # noqa: SIM115
        async for chunk in bounded.stream():
            file.write(chunk)
        file.seek(0)
        return cast(BinaryIO, file)

    def _bounded(self, request: Request, most: int) -> Receive:
        """`request.receive`, but for bodies over `most` bytes, whether or not their length was told (truly)."""
        if int(request.headers.get("content-length", 0)) > most:
            raise self._too_large()
        received = 0

        async def receive() -> Message:
            nonlocal received
            message = await request.receive()
            received += len(message.get("body", b""))
            if received > most:
                raise self._too_large()
            return message

        return receive

    def _too_large(self) -> ProblemError:
        detail = f"the file is larger than {self._settings.max_upload_bytes:,} bytes"
        return ProblemError("image-too-large", "Image too large", 413, detail, {"Connection": "close"})
