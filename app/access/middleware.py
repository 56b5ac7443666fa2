"""Who is let in: every request passes here before any route sees it, those of routes not written yet included.

In: requests; out: a `Caller` in their state, or a problem. What a request needs follows from its method and path alone,
so there is no list that a new route could be missing from. It must not know what the routes do.
"""

import base64
import re
from typing import Any

from fastapi import FastAPI
from redis import asyncio as aioredis
from redis.exceptions import RedisError
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from app.access.api_keys import ApiKeys, Scope
from app.access.caller import Caller
from app.access.origins import is_safe, refuse_cross_site, refuse_rebinding
from app.access.tickets import is_ticket
from app.access.unauthorized_page import is_for_a_person, put_in_words
from app.loopback import is_loopback
from app.problems import ProblemError, queue_unreachable
from app.settings import AppSettings
from jobs.ids import shared_secret
from jobs.problem import Problem

# Basic, so that browsers ask for the key themselves, and send it with everything: the page, EventSource and /docs.
_BASIC = 'Basic realm="Wordlight", charset="UTF-8"'
_BEARER = 'Bearer realm="Wordlight"'
_PROBES = {"/healthz", "/readyz"}
_EVENTS = re.compile("/v1/captions/([^/]+)/events")


class Access:
    """Decides about requests."""

    def __init__(self, redis: aioredis.Redis, settings: AppSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._keys = ApiKeys(redis)

    async def admit(self, request: Request) -> Caller:
        """Who sends the request.

        Raises ProblemError: 401 no (good) key, 403 a key without the scope, or a page of another site, 421 not our
        name. May raise redis.exceptions.RedisError.
        """
        refuse_cross_site(request, self._settings.cors_origins)
        if not self._settings.keys_required:
            refuse_rebinding(request, self._settings.allowed_hosts)
            return Caller("", frozenset(Scope))
        probe = _path(request) in _PROBES
        if probe and _is_local(request):
            return Caller("", frozenset())
        return await self._with_ticket(request) or await self._with_key(request, None if probe else _needed(request))

    async def _with_ticket(self, request: Request) -> Caller | None:
        offered = request.query_params.get("ticket")
        events = _EVENTS.fullmatch(_path(request))
        if offered is None or events is None or request.method != "GET":
            return None
        if not is_ticket(await shared_secret(self._redis), events[1], offered):
            return None
        return Caller("", frozenset({Scope.READ}), job_id=events[1])

    async def _with_key(self, request: Request, needed: Scope | None) -> Caller:
        secret = _presented_secret(request.headers.get("authorization", ""))
        if secret is None:
            detail = "this needs an API key: as a bearer token, or as the password of any user"
            raise ProblemError("unauthorized", "Unauthorized", 401, detail)
        key = await self._keys.find(secret)
        if key is None:  # unknown or revoked: which of them is nobody's business
            raise ProblemError("unauthorized", "Unauthorized", 401, "this API key is not good (any more)")
        if needed is not None and needed not in key.scopes:
            detail = f"this needs a key with the scope {needed.value!r}"
            raise ProblemError("missing-scope", "Missing scope", 403, detail)
        return Caller(key.id, frozenset(key.scopes), key.limit)


class AccessMiddleware:
    """Lets requests through to the application as `Access` decides, with their `Caller` in `request.state.caller`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here; should there be, they need a thought first
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope)
        try:
            access: Access = request.app.state.services.access
            request.state.caller = await access.admit(request)
        except ProblemError as refused:
            response = refused.response()
            if refused.problem.status == 401:
                response.headers.append("WWW-Authenticate", _BASIC)  # two lines: browsers do not split one
                response.headers.append("WWW-Authenticate", _BEARER)
                if is_for_a_person(request):
                    put_in_words(response)
        except RedisError as error:
            response = queue_unreachable(request, error).response()
        else:
            await self._app(scope, receive, send)
            return
        await response(scope, receive, send)


def install_access(api: FastAPI, settings: AppSettings) -> None:
    """Put the rules in front of everything that `api` answers, and into its documentation."""
    _document(api, settings)
    api.add_middleware(AccessMiddleware)
    if settings.cors_origins:  # in front of the rules: browsers ask for leave without a key
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
    """What routes are found by. The path of `request.url` is not: that is made of what the client says is our host."""
    path: str = request.scope["path"]
    return path


def _document(api: FastAPI, settings: AppSettings) -> None:
    answers = {"403": "a page of another site sent this"}
    if settings.keys_required:
        answers = {"401": "no API key, or none that is good", "403": f"the key lacks a scope, or {answers['403']}"}
    else:
        answers["421"] = "the service is not asked by a name of this machine"
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for operation in (operation for path in schema["paths"].values() for operation in path.values()):
            for status, description in answers.items():
                operation["responses"].setdefault(status, {"description": description, "content": content})
        if settings.keys_required:
            schemes = {name: {"type": "http", "scheme": name} for name in ("basic", "bearer")}
            schema.setdefault("components", {})["securitySchemes"] = schemes
            schema["security"] = [{name: []} for name in schemes]
        return schema

    api.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _needed(request: Request) -> Scope:
    if _path(request).startswith("/metrics"):
        return Scope.METRICS
    return Scope.READ if is_safe(request.method) else Scope.WRITE


def _is_local(request: Request) -> bool:
    """Whether the request comes from this very machine: over loopback, or from the address that it is sent to."""
    client, server = request.client, request.scope.get("server")
    return client is not None and (is_loopback(client.host) or (server is not None and client.host == server[0]))


def _presented_secret(authorization: str) -> str | None:
    """The secret in the value of Authorization, if there is one."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return None
