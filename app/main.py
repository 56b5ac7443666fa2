"""Builds the web application and runs its server."""

import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from app.access.middleware import install_access
from app.api import batches, captions, events, health, heatmaps, metrics, pages, scores
from app.api.metrics import Metrics
from app.api.openapi import install_openapi
from app.http.access_log import AccessLog
from app.http.request_ids import RequestIds
from app.http.security_headers import SecurityHeaders
from app.http.server import Server
from app.problems import install_problem_handlers
from app.services import running_services
from app.settings import AppSettings


def create_app(settings: AppSettings) -> FastAPI:
    """Build the web application."""
    process_metrics = Metrics(settings)

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with running_services(settings) as services, process_metrics.running(services):
            api.state.services = services
            yield

    # FastAPI, except that it serves the scripts of /docs itself and loads nothing from a CDN.
    api = FastAPIOffline(
        title="Wordlight",
        version=version("wordlight"),
        summary="Captions photographs and shows, word by word, where it was looking.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    api.state.metrics = process_metrics
    install_problem_handlers(api)
    for routes in (captions, events, heatmaps, scores, batches, health, metrics, pages):
        api.include_router(routes.router)
    api.mount("/static", pages.static_files(), name="static")
    install_access(api, settings)
    install_openapi(api, settings)
    return api


def run(settings: AppSettings, listening: socket.socket) -> None:
    """Serve on `listening` until SIGTERM or SIGINT. Requests that wait for a job then return it as it is."""
    _allow_many_files()
    api = create_app(settings)

    def on_stop() -> None:
        if services := getattr(api.state, "services", None):
            services.notifications.close_threadsafe()

    server = Server(observe(api), on_stop=on_stop, trusted_proxies=settings.trusted_proxies)
    server.run(sockets=[listening])


def _allow_many_files() -> None:
    """Raise the soft limit of open files, which is often 1024: each connection and each upload on disk needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def observe(api: FastAPI) -> ASGIApp:
    """Wrap the application in the middleware that sees every response, including its 500."""
    return RequestIds(SecurityHeaders(AccessLog(api, api.state.metrics.observe)))
