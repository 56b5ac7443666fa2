"""What both clients say to the HTTP library, and how they understand it.

In: requests as we have them; out: arguments for httpx2, and from its responses ours. It must not know what is asked.
"""

import os
from typing import Any, Final

import httpx2

from wordlight.client.errors import ProblemAnswer, error_of
from wordlight.client.retries import Answer
from wordlight.client.wire import Request

PATIENCE: Final = 60.0
_SECONDS: Final = 30.0  # without a byte
_QUIET_SECONDS: Final = 30.0  # in a stream of events, which says every few seconds that it is there


def authorised(api_key: str | None) -> dict[str, str]:
    """The headers of all requests."""
    key = os.environ.get("WORDLIGHT_API_KEY", "") if api_key is None else api_key
    return {"Authorization": f"Bearer {key}"} if key else {}


def base(url: str) -> str:
    """The address of a service, to which paths are added. Raises ValueError."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = None
    if parsed is None or parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is no address of a service, such as http://127.0.0.1:8000")
    return url.rstrip("/")


def sending(request: Request) -> dict[str, Any]:
    """The arguments for `request`, besides method, address and the headers of all requests."""
    return {
        "params": dict(request.params) or None,
        "data": dict(request.fields) or None,
        "files": list(request.files) or None,
        "timeout": httpx2.Timeout(_SECONDS, read=_SECONDS + request.wait),
    }


def streaming() -> httpx2.Timeout:
    """The time-outs of a stream of events."""
    return httpx2.Timeout(_QUIET_SECONDS)


def answer_of(response: httpx2.Response) -> Answer:
    """A response that has been read."""
    return Answer(response.status_code, response.headers, response.content)


def refusal(response: httpx2.Response) -> ProblemAnswer:
    """The error in a response that has been read."""
    return error_of(response.status_code, response.headers, response.content)
