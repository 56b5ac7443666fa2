"""The fields and file names of a request, bounded in number and size. Options are validated elsewhere."""

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from pydantic_core import from_json

from app.problems import ProblemError, invalid

MOST_FIELDS: Final = 32
LONGEST_VALUE: Final = 4096  # bytes of UTF-8
_LONGEST_FILE_NAME: Final = 200  # characters; file systems allow 255 bytes
_UNNAMED: Final = "unnamed"


def form_fields(parts: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Collect the text parts of a form. Raises a 422 that names a repeated or too long field."""
    fields: dict[str, object] = {}
    for name, value in parts:
        if name in fields:
            raise invalid((name, "is given twice"))
        fields[name] = value
    _check(fields)
    return fields


def json_fields(data: bytes) -> dict[str, object]:
    """Parse a flat JSON object. Raises a 400 for malformed JSON, a 422 for any other value."""
    try:
        body = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise ProblemError("malformed-json", "Malformed JSON body", 400, f"The body is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise ProblemError("invalid-request", "Invalid request", 422, "The JSON body is not an object.")
    _check(body)
    return {name: value for name, value in body.items() if value is not None}  # null means absent


def display_name(name: str) -> str:
    """Turn a client's file name into one printable line of at most 200 characters, without folders.

    The result is only displayed; it is never used as a path.
    """
    last = re.split(r"[/\\]", name)[-1]
    # macOS writes letters and accents as separate characters, and unusual spaces into the names of screenshots.
    composed = unicodedata.normalize("NFC", last)
    clean = "".join(_printable(character) for character in composed).strip()
    if len(clean) > _LONGEST_FILE_NAME:
        clean = clean[: _LONGEST_FILE_NAME - 1] + "…"
    return clean or _UNNAMED


def _check(fields: dict[str, object]) -> None:
    if len(fields) > MOST_FIELDS:
        detail = f"The request has more than {MOST_FIELDS} fields."
        raise ProblemError("invalid-request", "Invalid request", 422, detail)
    for name, value in fields.items():
        if isinstance(value, dict | list):
            raise invalid((name, "is not a single value"))
        if isinstance(value, float) and not math.isfinite(value):
            raise invalid((name, "is too large a number"))
        if isinstance(value, str) and len(value.encode()) > LONGEST_VALUE:
            raise invalid((name, f"is longer than {LONGEST_VALUE:,} bytes"))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
