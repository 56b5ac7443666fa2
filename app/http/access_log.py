"""Access log and request metrics. Also answers requests that the application left without a response."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import unavailable

log = logging.getLogger(__name__)

# Probes and scrapes: logged at level DEBUG only.
_QUIET: Final = {"/healthz", "/readyz", "/metrics"}


@dataclass(slots=True)
class Exchange:
    """A request and its response. `route` is the path template, `problem` the kind of problem in the response."""

    method: str
    path: str
    route: str = "(none)"
    status: int | None = None  # None if no response was started
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    finished: bool = False  # whether the whole response was sent
    problem: str | None = None
    client: str | None = None
    key: str | None = None


class AccessLog:
    """Middleware around the whole application and its error responses. RequestIds wraps it."""

    def __init__(self, app: ASGIApp, observe: Callable[[Exchange], None]) -> None:
        """Wrap `app`. `observe` is called with every exchange when it ends."""
        self._app, self._observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        exchange = Exchange(scope["method"], scope["path"], client=client[0] if client else None)
        started = time.perf_counter()

        async def receive_counted() -> Message:
            message = await receive()
            exchange.bytes_in += len(message.get("body", b""))
            return message

        async def send_counted(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
            elif message["type"] == "http.response.body":
                exchange.bytes_out += len(message.get("body", b""))
                exchange.finished = not message.get("more_body", False)

        try:
            await self._app(scope, receive_counted, send_counted)
        except asyncio.CancelledError:
            # The server stops and its grace period is over.
            if exchange.status is None:
                stopping = unavailable("stopping", "Stopping", "This server is shutting down. Try again.")
                await stopping.response()(scope, receive, send_counted)
        except Exception:
            log.exception("%s %s failed unexpectedly", exchange.method, exchange.path)
        finally:
            exchange.seconds = time.perf_counter() - started
            _read_state(exchange, scope)
            _log(exchange)
            self._observe(exchange)


def _read_state(exchange: Exchange, scope: Scope) -> None:
    """Complete the exchange with what the layers below stored in the scope."""
    state = scope.get("state", {})
    exchange.problem = state.get("problem")
    exchange.key = getattr(state.get("caller"), "key_id", None)
    if "route" in scope:
        exchange.route = getattr(scope["route"], "path", exchange.route)
    elif "endpoint" in scope:  # a mounted application
        exchange.route = scope["root_path"].removeprefix(scope.get("app_root_path", "")) + "/*"


def _log(exchange: Exchange) -> None:
    level = logging.DEBUG if exchange.route in _QUIET else logging.INFO
    milliseconds = round(1000 * exchange.seconds, 1)
    log.log(
        level,
        "%s %s %s, %.0f ms, %d bytes in, %d out, to %s%s",
        *(exchange.method, exchange.path, exchange.status or "unanswered", milliseconds),
        *(exchange.bytes_in, exchange.bytes_out, exchange.client, "" if exchange.finished else ", cut off"),
        extra={
            "method": exchange.method,
            "path": exchange.path,
            "route": exchange.route,
            "status": exchange.status,
            "milliseconds": milliseconds,
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
            "finished": exchange.finished,
            "problem": exchange.problem,
            "client": exchange.client,
            "key": exchange.key,
        },
    )
