"""The HTTP server: uvicorn, on a socket that is already there, speaking HTTP/1.1 within bounds.

In: an ASGI application and a listening socket; out: answers, until SIGTERM or SIGINT.
"""

import os
import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Network, IPv6Network
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from app.http.protocol import HttpProtocol
from app.settings import AppSettings

# The file descriptor of a listening socket that a supervisor hands on.
LISTEN_FD: Final = "WORDLIGHT_LISTEN_FD"
_GRACE_SECONDS: Final = 5


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


class Server(uvicorn.Server):
    """Serves until it is told to stop; then `on_stop` is called at once, by a signal handler."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        header_seconds: float,
        on_stop: Callable[[], None],
        trusted_proxies: Collection[IPv4Network | IPv6Network] = (),
    ) -> None:
        """Who asks is whom the connection comes from, unless that is a trusted proxy, which tells in its headers."""
        config = uvicorn.Config(
            app,
            http=HttpProtocol.within(header_seconds),
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
        """See the class."""
        super().handle_exit(sig, frame)
        self._on_stop()
