"""The web application, put together from its parts, and how it is run."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from types import FrameType

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app import captions, health, page
from app.access import install_access
from app.problems import install_problem_handlers
from app.services import running_services
from app.settings import AppSettings

# The file descriptor of a listening socket that a supervisor hands on.
LISTEN_FD = "WORDLIGHT_LISTEN_FD"
_GRACE_SECONDS = 5


def create_app(settings: AppSettings) -> FastAPI:
    """The web application."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with running_services(settings) as services:
            api.state.services = services
            yield

    # FastAPI, but for /docs, which comes with its scripts instead of asking a CDN for them.
    api = FastAPIOffline(
        title="Wordlight",
        version=version("wordlight"),
        summary="Captions photographs and shows, word by word, where it was looking.",
        lifespan=lifespan,
        redoc_url=None,
        favicon_url="/static/favicon.svg",
    )
    install_problem_handlers(api)
    api.include_router(captions.router)
    api.include_router(health.router)
    api.include_router(page.router)
    api.mount("/static", page.static_files(), name="static")
    install_access(api, settings)

    return api


def listening_socket(settings: AppSettings) -> socket.socket:
    """A socket that listens where the settings say. Raises OSError, with one line that says why."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        # Python adds the address to some of these messages, as a tuple.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(f"cannot listen on {settings.host}:{settings.port}: {why}") from error


def inherited_socket() -> socket.socket | None:
    """The listening socket that a supervisor opened for this process, if one did."""
    number = os.environ.get(LISTEN_FD)
    return socket.socket(fileno=int(number)) if number else None


def run(settings: AppSettings, listening: socket.socket) -> None:
    """Serve on `listening` until SIGTERM or SIGINT. Who waits for a job then gets it as it is, and no error."""
    api = create_app(settings)
    config = uvicorn.Config(api, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS)
    _Server(config, api).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, api: FastAPI) -> None:
        super().__init__(config)
        self._api = api

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if services := getattr(self._api.state, "services", None):
            services.notices.close_soon()
