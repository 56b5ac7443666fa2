"""What other web pages may not do with us through the browser of somebody who visits them.

In: a request's headers; out: a problem where a page of another site is behind it. Browsers add passwords by themselves,
and reach what listens on this machine only: neither a key nor the loopback address keeps other pages out.
"""

import re
from collections.abc import Collection

from starlette.requests import Request

from app.loopback import is_loopback
from app.problems import ProblemError

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:@/\[\]]+))(?::\d+)?")


def is_safe(method: str) -> bool:
    """Whether requests of that method only look (RFC 9110, 9.2.1)."""
    return method in _SAFE_METHODS


def refuse_cross_site(request: Request, trusted_origins: Collection[str]) -> None:
    """Raise the 403 for a request that changes something and that a page of another site sent."""
    origin = request.headers.get("origin")
    if is_safe(request.method) or origin in trusted_origins:
        return
    # What the browser itself says about the two comes first: a proxy in between may have changed the Host.
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        own = site in ("same-origin", "none")
    else:
        own = origin is None or origin.partition("://")[1:] == ("://", request.headers.get("host", "").lower())
    if not own:
        detail = (
            f"a page of {origin or 'another site'} may not do this here (WORDLIGHT_CORS_ORIGINS names those that may)"
        )
        raise ProblemError("cross-site", "Cross-site request", 403, detail)


def refuse_rebinding(request: Request, allowed_hosts: Collection[str]) -> None:
    """Raise the 421 for a request by a name that is not this machine's.

    Where no key is asked for, a page of any site could have its own name lead to 127.0.0.1 and then be of one origin
    with us (DNS rebinding); but it cannot choose another Host than that name.
    """
    host = request.headers.get("host", "").lower()
    match = _HOST.fullmatch(host)
    name = (match[1] or match[2]) if match else ""
    if not (is_loopback(name) or name in allowed_hosts):
        detail = f"without keys, no request for {host or 'no host'!r} is answered (WORDLIGHT_ALLOWED_HOSTS adds names)"
        raise ProblemError("misdirected", "Misdirected request", 421, detail)
