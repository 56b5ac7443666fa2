"""A multipart/form-data body → its parts, read by Starlette's parser without the surprises that it has.

In: the stream of a body whose size is bounded elsewhere; out: text and spooled files, each with its field's name.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from app.problems import ProblemError
from app.uploads.fields import LONGEST_VALUE, MOST_FIELDS

# What may surround the files of a form: the fields, and for every part a boundary and headers.
FIELDS_BYTES: Final = MOST_FIELDS * LONGEST_VALUE + 64 * 1024
# So that a value just too long gets the answer that names its field.
_LONGEST_PART: Final = 16 * LONGEST_VALUE
_LEAST_IN_MEMORY_BYTES: Final = 4096


class _Parser(MultiPartParser):
    """Starlette's, but that it tells whether the form came to its end."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def read_form(
    content_type: str, stream: AsyncGenerator[bytes, None], max_files: int, in_memory_bytes: int
) -> FormData:
    """The form in `stream`, to be closed; all its files together keep at most about `in_memory_bytes` in memory.

    Raises the 400 for what is malformed or cut short, and the 422 for too many files.
    """

    async def whole() -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not parser.ended:  # Starlette would leave out the part that was cut off, and call the rest a form
            raise MultiPartException("The form ends before its last boundary.")

    async with aclosing(stream), aclosing(whole()) as chunks:
        parser = _Parser(
            _headers(content_type), chunks, max_files=max_files, max_fields=MOST_FIELDS, max_part_size=_LONGEST_PART
        )
        parser.spool_max_size = max(in_memory_bytes // max_files, _LEAST_IN_MEMORY_BYTES)
        try:
            return await parser.parse()
        except MultiPartException as error:
            if error.message.startswith("Too many files"):
                detail = f"the form has more than {max_files} files"
                raise ProblemError("too-many-files", "Too many files", 422, detail) from error
            raise _malformed(error.message) from error


def _headers(content_type: str) -> Headers:
    """The Content-Type with nothing but its boundary.

    A charset has no meaning there (RFC 7578, 5.1.2), and is looked up among all of Python's, which remembers each name
    that it does not find.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"").decode("latin-1")
    if not boundary or not boundary.isascii() or not boundary.isprintable() or '"' in boundary or "\\" in boundary:
        raise _malformed("The Content-Type has no boundary, or one that cannot be.")
    return Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})


def _malformed(detail: str) -> ProblemError:
    return ProblemError("malformed-multipart", "Malformed multipart body", 400, detail)
