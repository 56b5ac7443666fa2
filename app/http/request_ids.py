"""A name for every request: in its answer, in its problems, in every line that is logged about it.

In: an ASGI application; out: one whose requests have an id, the client's own if it sent a sane one.
"""

import re
import uuid
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.logs import log_field, log_fields

REQUEST_ID: Final = "X-Request-ID"
_SANE: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def new_request_id() -> str:
    """An id that no other request has."""
    return uuid.uuid4().hex


def current_request_id() -> str:
    """The id of the request at hand; empty where there is none."""
    return log_field("request_id")


class RequestIds:
    """The middleware. To be the outermost, so that nothing is answered or logged without an id.

    Routes find the id in `request.state.request_id`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
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
    """The id that the client sent; None if it sent none, or several, or one that is not fit to be passed on."""
    values = [value for name, value in scope["headers"] if name == REQUEST_ID.lower().encode()]
    if len(values) == 1 and _SANE.fullmatch(values[0]):
        sent: bytes = values[0]
        return sent.decode()
    return None
