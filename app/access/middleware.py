"""Authentication middleware. Runs before every route.

The scope that a request needs follows from its method and path, so no list of routes can miss a new one. Routes read
the authenticated client from `CallerDep`.
"""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends, FastAPI
from redis import asyncio as aioredis
from redis.exceptions import RedisError
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from app.access.api_keys import ApiKeys, Scope
from app.access.origins import is_safe, refuse_cross_site, refuse_rebinding
from app.access.tickets import is_ticket
from app.problems import ProblemError, queue_unreachable
from app.settings import AppSettings, is_loopback
from jobs.ids import shared_secret

# With Basic, a browser asks for the key itself and sends it with everything: the page, EventSource and /docs.
_BASIC: Final = 'Basic realm="Wordlight", charset="UTF-8"'
_BEARER: Final = 'Bearer realm="Wordlight"'
_PROBES: Final = {"/healthz", "/readyz"}
_EVENTS: Final = re.compile("/v1/captions/([^/]+)/events")
_UNAUTHORIZED_PAGE: Final = (Path(__file__).parent.parent / "static" / "unauthorized.html").read_bytes()


@dataclass(frozen=True, slots=True)
class Caller:
    """The client that sent a request: an API key, a ticket, or (`key_id` "") anyone where keys are not required.

    `key_id` owns the jobs that the caller creates and sees. A ticket gives access to the job `job_id` only,
    whoever owns it. `limit` is the key's own rate limit.
    """

    key_id: str
    scopes: frozenset[Scope]
    limit: str | None = None
    job_id: str | None = None

    @property
    def owner(self) -> str | None:
        """The owner whose jobs the caller may see; None for a ticket, which names its job."""
        return self.key_id if self.job_id is None else None


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]


class Access:
    """Authenticates requests and checks their scope."""

    def __init__(self, redis: aioredis.Redis, settings: AppSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._keys = ApiKeys(redis)

    async def authenticate(self, request: Request) -> Caller:
        """Return the caller.

        Raises ProblemError: 401 for a missing or invalid key, 403 for a missing scope or a page of another site, 421
        for an unknown host name. Raises redis.exceptions.RedisError if Redis fails.
        """
        refuse_cross_site(request, self._settings.cors_origins)
        if not self._settings.keys_required:
            refuse_rebinding(request, self._settings.allowed_hosts)
            return Caller("", frozenset(Scope))
        probe = _path(request) in _PROBES
        if probe and _is_local(request):
            return Caller("", frozenset())
        required = None if probe else _required_scope(request)
        return await self._with_ticket(request) or await self._with_key(request, required)

    async def _with_ticket(self, request: Request) -> Caller | None:
        offered = request.query_params.get("ticket")
        events = _EVENTS.fullmatch(_path(request))
        if offered is None or events is None or request.method != "GET":
            return None
        if not is_ticket(await shared_secret(self._redis), events[1], offered):
            return None
        return Caller("", frozenset({Scope.READ}), job_id=events[1])

    async def _with_key(self, request: Request, required: Scope | None) -> Caller:
        secret = _presented_secret(request.headers.get("authorization", ""))
        if secret is None:
            detail = "This request needs an API key: as a bearer token, or as the password of any user name."
            raise ProblemError("unauthorized", "Unauthorized", 401, detail)
        key = await self._keys.find(secret)
        if key is None:  # unknown or revoked: the answer does not reveal which
            raise ProblemError("unauthorized", "Unauthorized", 401, "This API key is unknown or revoked.")
        if required is not None and required not in key.scopes:
            detail = f"This request needs a key with the scope {required.value!r}."
            raise ProblemError("missing-scope", "Missing scope", 403, detail)
        return Caller(key.id, frozenset(key.scopes), key.limit)


class AccessMiddleware:
    """Passes authenticated requests on, with their `Caller` in `request.state.caller`; answers all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets to authenticate
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope)
        try:
            access: Access = request.app.state.services.access
            request.state.caller = await access.authenticate(request)
        except ProblemError as refused:
            response = refused.response()
            if refused.problem.status == 401:
                response.headers.append("WWW-Authenticate", _BASIC)  # two headers: browsers do not split one
                response.headers.append("WWW-Authenticate", _BEARER)
                if _accepts_html(request):
                    _use_unauthorized_page(response)
        except RedisError as error:
            response = queue_unreachable(request, error).response()
        else:
            await self._app(scope, receive, send)
            return
        await response(scope, receive, send)


def install_access(api: FastAPI, settings: AppSettings) -> None:
    """Add the middleware to `api`, and CORS for the configured origins."""
    api.add_middleware(AccessMiddleware)
    if settings.cors_origins:  # outside of authentication: preflight requests carry no key
        api.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Authorization", "Idempotency-Key", "Last-Event-ID", "Prefer"],
            expose_headers=[
                "Location",
                "Preference-Applied",
                "RateLimit",
                "RateLimit-Policy",
                "Retry-After",
                "X-Request-ID",
            ],
        )


def _path(request: Request) -> str:
    """The path that routes match. `request.url` is unsuitable: it is built from the Host header."""
    path: str = request.scope["path"]
    return path


def _required_scope(request: Request) -> Scope:
    if _path(request).startswith("/metrics"):
        return Scope.METRICS
    return Scope.READ if is_safe(request.method) else Scope.WRITE


def _is_local(request: Request) -> bool:
    """Tell whether this machine sent the request: over loopback, or from the address that the request was sent to."""
    client, server = request.client, request.scope.get("server")
    return client is not None and (is_loopback(client.host) or (server is not None and client.host == server[0]))


def _presented_secret(authorization: str) -> str | None:
    """The secret in the value of an Authorization header, if any."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return None


def _accepts_html(request: Request) -> bool:
    """Tell whether a person will read the response: only browsers ask for HTML."""
    return is_safe(request.method) and "text/html" in request.headers.get("accept", "")


def _use_unauthorized_page(response: Response) -> None:
    """Replace the problem of a 401 by a page that explains where to enter the key."""
    response.body = _UNAUTHORIZED_PAGE
    response.headers["Content-Type"] = "text/html; charset=utf-8"
    response.headers["Content-Length"] = str(len(_UNAUTHORIZED_PAGE))
    response.headers["Vary"] = "Accept"
