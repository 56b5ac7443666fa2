"""The page at / and the API documentation at /docs: static files with their own Content-Security-Policy."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

_FOLDER: Final = Path(__file__).parent.parent / "static"
# Browsers must not combine cached files of two versions; a 304 is cheap.
_CACHE: Final = {"Cache-Control": "no-cache"}
_PAGE_HEADERS: Final = {
    # Photographs are shown from memory (blob:), and drawings can be saved (data:).
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    **_CACHE,
}
# FastAPI's own page needs an inline script, which no strict policy allows. The scripts come from fastapi-offline.
_DOCS_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    **_CACHE,
}

router = APIRouter()


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def index() -> FileResponse:
    """Serve the page."""
    return FileResponse(_FOLDER / "index.html", headers=_PAGE_HEADERS)


@router.head("/docs", include_in_schema=False)
@router.get("/docs", include_in_schema=False)
async def docs() -> FileResponse:
    """Serve the API documentation."""
    return FileResponse(_FOLDER / "docs.html", headers=_DOCS_HEADERS)


class _StaticFiles(StaticFiles):
    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_PAGE_HEADERS)
        return response


def static_files() -> StaticFiles:
    """The application that serves the page's scripts, styles and samples."""
    return _StaticFiles(directory=_FOLDER)
