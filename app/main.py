"""The web application, put together from its parts, and how it is run."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app import captions, health, page
from app.problems import install_problem_handlers
from app.services import running_services
from app.settings import AppSettings

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

    return api


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def run(settings: AppSettings, listening: socket.socket) -> None:
    """Serve on `listening` until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        create_app(settings), log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS
    )
    uvicorn.Server(config).run(sockets=[listening])
