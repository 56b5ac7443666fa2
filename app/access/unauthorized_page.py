"""What a browser shows to who came without a good key: in words, what to do. Programs get the problem itself."""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app.access.origins import is_safe

_PAGE: Final = (Path(__file__).parent.parent / "static" / "locked.html").read_bytes()


def is_for_a_person(request: Request) -> bool:
    """Whether the answer is what somebody will look at: browsers ask for HTML then, and only then."""
    return is_safe(request.method) and "text/html" in request.headers.get("accept", "")


def put_in_words(refused: Response) -> None:
    """Make a page of the answer to a request that was refused."""
    refused.body = _PAGE
    refused.headers["Content-Type"] = "text/html; charset=utf-8"
    refused.headers["Content-Length"] = str(len(_PAGE))
    refused.headers["Vary"] = "Accept"
