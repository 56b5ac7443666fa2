"""Refuses requests that pages of other sites send through a visitor's browser.

Neither keys nor the loopback address keep such pages out: a browser adds stored passwords by itself, and it reaches
servers on its own machine.
"""

import re
from collections.abc import Collection

from starlette.requests import Request

from app.problems import ProblemError
from app.settings import is_loopback

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:@/\[\]]+))(?::\d+)?")


def is_safe(method: str) -> bool:
    """Tell whether a method is safe: it only reads (RFC 9110, 9.2.1)."""
    return method in _SAFE_METHODS


def refuse_cross_site(request: Request, trusted_origins: Collection[str]) -> None:
    """Raise the 403 for an unsafe request from a page of another site."""
    origin = request.headers.get("origin")
    if is_safe(request.method) or origin in trusted_origins:
        return
    # Preferred to comparing Origin with Host, because a proxy may have changed Host.
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        own = site in ("same-origin", "none")
    else:
        own = origin is None or origin.partition("://")[1:] == ("://", request.headers.get("host", "").lower())
    if not own:
        detail = f"A page of {origin or 'another site'} may not send this request (see WORDLIGHT_CORS_ORIGINS)."
        raise ProblemError("cross-site", "Cross-site request", 403, detail)


def refuse_rebinding(request: Request, allowed_hosts: Collection[str]) -> None:
    """Raise the 421 for a request whose Host is neither a loopback name nor allowed.

    This prevents DNS rebinding where keys are not required: a site can point its own name to 127.0.0.1 to share our
    origin, but the browser still sends that name as the Host.
    """
    host = request.headers.get("host", "").lower()
    match = _HOST.fullmatch(host)
    name = (match[1] or match[2]) if match else ""
    if not (is_loopback(name) or name in allowed_hosts):
        detail = f"Without keys, the host {host!r} is not served; WORDLIGHT_ALLOWED_HOSTS lists additional hosts."
        raise ProblemError("misdirected", "Misdirected request", 421, detail)
