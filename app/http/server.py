"""The HTTP server: uvicorn on a socket that already listens.

The parser is h11, because it bounds the size of headers; httptools does not. Uvicorn has no time limit for headers, so
a proxy in front of it must have one: docker/Caddyfile does.
"""

import os
import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Network, IPv6Network
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from app.settings import AppSettings

# The environment variable with the file descriptor of a listening socket that a supervisor passes on.
LISTEN_FD: Final = "WORDLIGHT_LISTEN_FD"
_MOST_HEADER_BYTES: Final = 32 * 1024  # request line and headers; also trailers and extensions of a chunked body
_KEEP_ALIVE_SECONDS: Final = 10  # longer than the proxy of docker/Caddyfile keeps an idle connection
_GRACE_SECONDS: Final = 5


def listening_socket(settings: AppSettings) -> socket.socket:
    """Open a socket that listens on the configured address. Raises OSError with a message of one line."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        # Some of Python's messages contain the address as a tuple.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(f"cannot listen on {settings.host}:{settings.port}: {why}") from error


def inherited_socket() -> socket.socket | None:
    """The listening socket that a supervisor opened for this process, if any."""
    number = os.environ.get(LISTEN_FD)
    return socket.socket(fileno=int(number)) if number else None


class Server(uvicorn.Server):
    """A server that stops on SIGTERM or SIGINT; the signal handler calls `on_stop` at once."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        on_stop: Callable[[], None],
        trusted_proxies: Collection[IPv4Network | IPv6Network] = (),
    ) -> None:
        """Create a server; `run` starts it.

        The client's address is that of the connection or, behind a trusted proxy, the one in X-Forwarded-For.
        """
        config = uvicorn.Config(
            app,
            http="h11",
            h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=[str(network) for network in trusted_proxies],
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        super().handle_exit(sig, frame)
        self._on_stop()
