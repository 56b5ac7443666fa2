"""The web application, put together from its parts, and how it is run."""

import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from app.access.middleware import install_access
from app.api import (
    batches,
    captions,
    documentation,
    events,
    health,
    heatmaps,
    metrics,
    pages,
    queue_position,
    scores,
    working_image,
)
from app.api.metrics import Metrics
from app.api.openapi import install_forms
from app.http.access_log import Traffic
from app.http.request_ids import RequestIds
from app.http.security_headers import SecurityHeaders
from app.http.server import Server
from app.problems import install_problem_handlers
from app.services import running_services
from app.settings import AppSettings


def create_app(settings: AppSettings) -> FastAPI:
    """The web application."""
    counted = Metrics(settings)

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with running_services(settings) as services, counted.running(services):
            api.state.services = services
            yield

    # FastAPI, but that it comes with the scripts of app/api/documentation.py instead of asking a CDN for them.
    api = FastAPIOffline(
        title="Wordlight",
        version=version("wordlight"),
        summary="Captions photographs and shows, word by word, where it was looking.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    api.state.metrics = counted
    install_problem_handlers(api)
    of_captions = (captions, events, queue_position, working_image, heatmaps)
    for routes in (*of_captions, scores, batches, health, metrics, documentation, pages):
        api.include_router(routes.router)
    api.mount("/static", pages.static_files(), name="static")
    install_access(api, settings)
    install_forms(api, settings)

    return api


def run(settings: AppSettings, listening: socket.socket) -> None:
    """Serve on `listening` until SIGTERM or SIGINT. Who waits for a job then gets it as it is, and no error."""
    _allow_many_files()
    api = create_app(settings)

    def on_stop() -> None:
        if services := getattr(api.state, "services", None):
            services.notices.close_soon()

    server = Server(
        observed(api),
        header_seconds=settings.header_seconds,
        on_stop=on_stop,
        trusted_proxies=settings.trusted_proxies,
    )
    server.run(sockets=[listening])


def _allow_many_files() -> None:
    """Connections are files, and so are uploads that wait on the disk: a soft limit of 1024 is soon reached."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def observed(api: FastAPI) -> ASGIApp:
    """The application in the layers that see everything it answers, its own 500 included."""
    return RequestIds(SecurityHeaders(Traffic(api, api.state.metrics.observe)))
