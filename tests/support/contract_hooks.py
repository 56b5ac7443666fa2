"""Hooks for schemathesis: pictures, and rules between fields that JSON Schema cannot express.

tests/app/api/test_openapi.py runs schemathesis, which loads this module.
"""

import io
import zipfile
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import strategies as st
from PIL import Image

FOR_SAMPLES_ONLY = {"temperature", "top_k", "top_p", "seed"}


def _png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def _zip(picture: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("picture.png", picture)
    return file.getvalue()


PICTURES = st.tuples(*[st.integers(0, 255)] * 3).map(_png)

schemathesis.openapi.format("binary", PICTURES)
schemathesis.openapi.media_type("image/*", PICTURES)
schemathesis.openapi.media_type("application/zip", PICTURES.map(_zip))


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: Any) -> Any:  # noqa: ARG001
    """Make positive test cases valid.

    The options of a strategy and the number of beams depend on several fields, and an Idempotency-Key must not come
    with two different requests.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    # Change everything in place, because schemathesis would check assigned values again.
    if isinstance(case.body, dict) and "caption" not in case.body:
        strategy = case.body.get("strategy", "beam")
        for name in FOR_SAMPLES_ONLY if strategy != "sample" else ():
            case.body.pop(name, None)
        if strategy == "greedy":
            case.body.pop("num_captions", None)
        if strategy in ("greedy", "sample"):
            case.body.pop("beam_size", None)
        elif case.body.get("beam_size") is not None:
            case.body["beam_size"] = case.body.get("num_captions") or 3
    if case.operation.label == "POST /v1/scores" and (case.media_type or "").startswith("image/"):
        case.query["caption"] = "a dog"  # with an image body, options are in the query
    if key := case.headers.get("idempotency-key"):
        case.headers["idempotency-key"] = (uuid4().hex + key)[: max(32, len(key))]  # unique to the request
    return case
