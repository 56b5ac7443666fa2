"""The page in the browser: static files, sent with a policy that lets them talk to nobody but us."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

_FOLDER = Path(__file__).parent.parent / "static"
_HEADERS = {
    # Photographs are shown from memory (blob:), and what is drawn may be saved (data:).
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    # A newer version must not meet an older one's files in a browser's cache; a 304 is cheap.
    "Cache-Control": "no-cache",
}

router = APIRouter()


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def index() -> FileResponse:
    """The page."""
    return FileResponse(_FOLDER / "index.html", headers=_HEADERS)


class _StaticFiles(StaticFiles):
    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def static_files() -> StaticFiles:
    """What the page is made of."""
    return _StaticFiles(directory=_FOLDER)
