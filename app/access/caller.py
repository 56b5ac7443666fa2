"""Who sends a request: what app/access/middleware.py found out, for the routes to go by."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.access.api_keys import Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """A key, or a ticket, or (`key_id` "") somebody who needs neither.

    `key_id` is the owner of the jobs that the caller makes, and of all that it may see; but a ticket shows `job_id`
    alone, whoever owns it. `limit` is the key's own rate limit, as app/limit.py reads it.
    """

    key_id: str
    scopes: frozenset[Scope]
    limit: str | None = None
    job_id: str | None = None

    @property
    def owner(self) -> str | None:
        """Whose jobs to look among; None: anybody's, for a ticket was sealed for the one that is asked about."""
        return self.key_id if self.job_id is None else None


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


Who = Annotated[Caller, Depends(_caller)]
