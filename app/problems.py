"""Every error of the web process as RFC 9457 problem+json, the framework's own included.

In: exceptions; out: responses. Routes raise `ProblemError`; middleware, which no handler watches, answers with the
`response` of one.
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

from app.http.request_ids import current_request_id
from jobs.problem import Problem

log = logging.getLogger(__name__)

_RETRY_SECONDS = "5"


class ProblemResponse(Response):
    """A problem as an answer, with the id of the request at hand. Leaves its kind in the state of the request."""

    media_type = "application/problem+json"

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        self._kind = problem.kind
        if request_id := current_request_id():
            problem = problem.model_copy(update={"request_id": request_id})
        super().__init__(problem.model_dump_json(), problem.status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        scope.setdefault("state", {})["problem"] = self._kind  # for app/http/access_log.py
        await super().__call__(scope, receive, send)


class ProblemError(Exception):
    """An error to be answered as problem+json."""

    def __init__(
        self, kind: str, title: str, status: int, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = Problem.of(kind, title, status, detail)
        self.headers = headers

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The error that tells of `problem`."""
        error = cls("", problem.title, problem.status, problem.detail)
        error.problem = problem
        return error

    def response(self) -> Response:
        """The answer that tells it."""
        return ProblemResponse(self.problem, self.headers)


def invalid(*errors: tuple[str, str], kind: str = "invalid-request", title: str = "Invalid request") -> ProblemError:
    """A 422 that names the fields: pairs of a field and what is wrong with it."""
    detail = "; ".join(f"{field}: {message}" for field, message in errors)
    fields = [{"field": field, "message": message} for field, message in errors]
    return ProblemError.of(Problem.of(kind, title, 422, detail).model_copy(update={"errors": fields}))


def unavailable(kind: str, title: str, detail: str) -> ProblemError:
    """A 503 that says when to come back."""
    return ProblemError(kind, title, 503, detail, {"Retry-After": _RETRY_SECONDS})


def queue_unreachable(request: Request, error: RedisError) -> ProblemError:
    """The 503 for a request that Redis failed; it is logged, too."""
    log.warning("Redis failed during %s %s: %s", request.method, request.url.path, error)
    return unavailable("queue-unreachable", "Queue unreachable", "the queue cannot be reached: try again soon")


def install_problem_handlers(api: FastAPI) -> None:
    """Answer every exception that leaves a route of `api` with problem+json."""

    @api.exception_handler(ProblemError)
    async def _problem(_request: Request, error: ProblemError) -> Response:
        return error.response()

    @api.exception_handler(RedisError)
    async def _redis(request: Request, error: RedisError) -> Response:
        return queue_unreachable(request, error).response()

    @api.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 204:  # not an error, and it may have no body
            return Response(status_code=204, headers=error.headers)
        title = HTTPStatus(error.status_code).phrase
        detail = error.detail if error.detail != title else f"{request.method} {request.url.path}: {title.lower()}"
        kind = title.lower().replace(" ", "-")
        headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
        return ProblemResponse(Problem.of(kind, title, error.status_code, detail), headers)

    @api.exception_handler(RequestValidationError)
    async def _validation(_request: Request, error: RequestValidationError) -> Response:
        return invalid(*((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())).response()

    @api.exception_handler(Exception)
    async def _unexpected(_request: Request, _error: Exception) -> Response:
        # app/http/access_log.py logs the traceback after this; the client need not see it.
        return ProblemResponse(Problem.of("internal-error", "Internal error", 500, "something went wrong on our side"))


def _allowed(request: Request) -> str:
    """The methods of all routes of the path. The framework tells those of one of them alone."""
    path = request.scope["path"]
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.methods is None:  # a folder, which is read
            if path.startswith(f"{route.original_route.path}/"):  # type: ignore[attr-defined]
                found |= {"GET", "HEAD"}
        elif compile_path(route.path or "")[0].match(path):
            found |= route.methods
    return ", ".join(sorted(found))
