"""Answers every error, including the framework's own, with problem+json (RFC 9457).

Routes raise `ProblemError`. Middleware runs outside of the exception handlers and sends `ProblemError.response()`.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Self

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from jobs.logs import log_field
from jobs.problem import Problem

log = logging.getLogger(__name__)

_RETRY_SECONDS = "5"


class ProblemResponse(Response):
    """A problem as a response, with the id of the current request. Stores the kind in the request's state."""

    media_type = "application/problem+json"

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        self._kind = problem.kind
        if request_id := log_field("request_id"):
            problem = problem.model_copy(update={"request_id": request_id})
        super().__init__(problem.model_dump_json(), problem.status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response (ASGI)."""
        scope.setdefault("state", {})["problem"] = self._kind  # the access log reads it
        await super().__call__(scope, receive, send)


class ProblemError(Exception):
    """An error that is answered with problem+json."""

    def __init__(
        self, kind: str, title: str, status: int, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = Problem.of(kind, title, status, detail)
        self.headers = headers

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Create an error from a problem."""
        error = cls("", problem.title, problem.status, problem.detail)
        error.problem = problem
        return error

    def response(self) -> Response:
        """The response for this error."""
        return ProblemResponse(self.problem, self.headers)


def invalid(*errors: tuple[str, str], kind: str = "invalid-request", title: str = "Invalid request") -> ProblemError:
    """Create a 422 from pairs of a field and a message."""
    detail = "; ".join(f"{field}: {message}" for field, message in errors)
    fields = [{"field": field, "message": message} for field, message in errors]
    return ProblemError.of(Problem.of(kind, title, 422, detail).model_copy(update={"errors": fields}))


def unavailable(kind: str, title: str, detail: str) -> ProblemError:
    """Create a 503 with Retry-After."""
    return ProblemError(kind, title, 503, detail, {"Retry-After": _RETRY_SECONDS})


def queue_unreachable(request: Request, error: RedisError) -> ProblemError:
    """Log a failure of Redis and create the 503 for it."""
    log.warning("Redis failed during %s %s: %s", request.method, request.url.path, error)
    return unavailable("queue-unreachable", "Queue unreachable", "The queue cannot be reached. Try again soon.")


def install_problem_handlers(api: FastAPI) -> None:
    """Answer every exception from a route of `api` with problem+json."""

    @api.exception_handler(ProblemError)
    async def _problem(_request: Request, error: ProblemError) -> Response:
        return error.response()

    @api.exception_handler(RedisError)
    async def _redis(request: Request, error: RedisError) -> Response:
        return queue_unreachable(request, error).response()

    @api.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 204:  # not an error; it must not have a body
            return Response(status_code=204, headers=error.headers)
        title = HTTPStatus(error.status_code).phrase
        detail = error.detail if error.detail != title else f"{request.method} {request.url.path}: {title}"
        kind = title.lower().replace(" ", "-")
        headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
        return ProblemResponse(Problem.of(kind, title, error.status_code, detail), headers)

    @api.exception_handler(RequestValidationError)
    async def _validation(_request: Request, error: RequestValidationError) -> Response:
        return invalid(*((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())).response()

    @api.exception_handler(Exception)
    async def _unexpected(_request: Request, _error: Exception) -> Response:
        # The access log logs the traceback; clients do not see it.
        return ProblemResponse(Problem.of("internal-error", "Internal error", 500, "The server failed unexpectedly."))


def _allowed(request: Request) -> str:
    """The methods of all routes with this path. The framework names those of a single route."""
    path = request.scope["path"]
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.methods is None:  # a mounted folder of static files
            if path.startswith(f"{route.original_route.path}/"):  # type: ignore[attr-defined]
                methods |= {"GET", "HEAD"}
        elif compile_path(route.path or "")[0].match(path):
            methods |= route.methods
    return ", ".join(sorted(methods))
