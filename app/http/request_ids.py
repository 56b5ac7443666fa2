"""Request ids: middleware that puts an id on every response, problem and log line of a request.

The id is the client's X-Request-ID if it sent a well-formed one.
"""

import re
import uuid
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.logs import log_fields

REQUEST_ID: Final = "X-Request-ID"
_WELL_FORMED: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def new_request_id() -> str:
    """Make a unique id."""
    return uuid.uuid4().hex


class RequestIds:
    """The outermost middleware, so that no response or log line is without an id.

    Routes read the id from `request.state.request_id`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _sent_id(scope) or new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with log_fields(request_id=request_id):
            await self._app(scope, receive, send_with_id)


def _sent_id(scope: Scope) -> str | None:
    """The id that the client sent; None if it sent none, several, or a malformed one."""
    values = [value for name, value in scope["headers"] if name == REQUEST_ID.lower().encode()]
    if len(values) == 1 and _WELL_FORMED.fullmatch(values[0]):
        sent: bytes = values[0]
        return sent.decode()
    return None
