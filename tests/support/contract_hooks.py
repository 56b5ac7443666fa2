"""What schemathesis must know to send good requests: pictures, and what JSON Schema cannot say of our fields.

Loaded by schemathesis itself, which tests/app/api/test_openapi.py runs.
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
    """Make requests that are meant to be good agree with themselves.

    Which options go with which strategy, and how many beams captions need, depends on several fields at once; and an
    Idempotency-Key is refused when it came with another request.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    # All is changed in place: what is assigned anew, schemathesis would take for something that it has to judge anew.
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
        case.query["caption"] = "a dog"  # beside a bare file, options are in the query
    if key := case.headers.get("idempotency-key"):
        case.headers["idempotency-key"] = (uuid4().hex + key)[: max(32, len(key))]  # a request has one of its own
    return case
