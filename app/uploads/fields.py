"""The fields of a request: the text parts of a form, or a JSON object → names and values, few and short.

Who checks what they mean need not fear their size, a value of several parts, or a text that is none.
"""

import math
from collections.abc import Iterable
from typing import Final

from pydantic_core import from_json

from app.problems import ProblemError, invalid

MOST_FIELDS: Final = 32
LONGEST_VALUE: Final = 4096  # bytes of UTF-8


def form_fields(parts: Iterable[tuple[str, str]]) -> dict[str, object]:
    """The text parts of a form. Raises the 422 that names a field given twice or too long."""
    fields: dict[str, object] = {}
    for name, value in parts:
        if name in fields:
            raise invalid((name, "is given twice"))
        fields[name] = value
    _check(fields)
    return fields


def json_fields(data: bytes) -> dict[str, object]:
    """The members of a JSON object. Raises the 400 for what is no JSON, the 422 for what is not one flat object."""
    try:
        body = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise ProblemError("malformed-json", "Malformed JSON body", 400, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ProblemError("invalid-request", "Invalid request", 422, "the JSON body is not an object")
    _check(body)
    return {name: value for name, value in body.items() if value is not None}  # what is null is not there


def _check(fields: dict[str, object]) -> None:
    if len(fields) > MOST_FIELDS:
        detail = f"the request has more than {MOST_FIELDS} fields"
        raise ProblemError("invalid-request", "Invalid request", 422, detail)
    for name, value in fields.items():
        if isinstance(value, dict | list):
            raise invalid((name, "is not a single value"))
        if isinstance(value, float) and not math.isfinite(value):
            raise invalid((name, "is too large a number"))
        if isinstance(value, str) and len(value.encode()) > LONGEST_VALUE:
            raise invalid((name, f"is longer than {LONGEST_VALUE:,} bytes"))
