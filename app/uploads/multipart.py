"""Parses multipart/form-data with Starlette's parser, and refuses truncated forms and odd boundaries.

app/uploads/body.py bounds the size of the stream.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from app.problems import ProblemError
from app.uploads.fields import LONGEST_VALUE, MOST_FIELDS

# Bytes of a form besides its files: the fields, and a boundary and headers for every part.
FIELDS_BYTES: Final = MOST_FIELDS * LONGEST_VALUE + 64 * 1024
# Larger than LONGEST_VALUE, so that a value that is slightly too long gets the error that names its field.
_LONGEST_PART: Final = 16 * LONGEST_VALUE
_LEAST_IN_MEMORY_BYTES: Final = 4096


class _Parser(MultiPartParser):
    """Starlette's parser, which also records whether the form was complete."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def read_form(
    content_type: str, stream: AsyncGenerator[bytes, None], max_files: int, in_memory_bytes: int
) -> FormData:
    """Parse the form in `stream`; the caller closes it. All files together use about `in_memory_bytes` of memory.

    Raises a 400 for a malformed or truncated form, a 422 for too many files.
    """

    async def until_last_boundary() -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not parser.ended:  # Starlette would drop the truncated part and accept the rest
            raise MultiPartException("The form ends before its last boundary.")

    async with aclosing(stream), aclosing(until_last_boundary()) as chunks:
        parser = _Parser(
            _headers(content_type), chunks, max_files=max_files, max_fields=MOST_FIELDS, max_part_size=_LONGEST_PART
        )
        parser.spool_max_size = max(in_memory_bytes // max_files, _LEAST_IN_MEMORY_BYTES)
        try:
            return await parser.parse()
        except MultiPartException as error:
            if error.message.startswith("Too many files"):
                detail = f"The form has more than {max_files} files."
                raise ProblemError("too-many-files", "Too many files", 422, detail) from error
            raise _malformed(error.message) from error


def _headers(content_type: str) -> Headers:
    """The Content-Type with its boundary alone.

    A charset has no meaning here (RFC 7578, 5.1.2). Starlette would look it up among Python's codecs, which keep every
    unknown name in memory.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"").decode("latin-1")
    if not boundary or not boundary.isascii() or not boundary.isprintable() or '"' in boundary or "\\" in boundary:
        raise _malformed("The Content-Type has no valid boundary.")
    return Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})


def _malformed(detail: str) -> ProblemError:
    return ProblemError("malformed-multipart", "Malformed multipart body", 400, detail)
