"""Security headers of a real web process."""

from collections.abc import Iterator

import httpx
import pytest
from support.api import start_api


@pytest.fixture
def api(redis_url: str) -> Iterator[httpx.Client]:
    """A web process without a worker."""
    command, url = start_api(REDIS_URL=redis_url)
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client
    command.end()


def test_every_response_has_security_headers(api: httpx.Client) -> None:
    for path in ("/v1/captions/x", "/healthz", "/openapi.json", "/nothing", "/metrics"):
        headers = api.get(path).headers
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
        assert headers.get("cache-control") == ("no-store" if path.startswith("/v1/") else None)
        assert "server" not in headers


def test_headers_of_a_response_are_not_replaced(api: httpx.Client) -> None:
    headers = api.get("/static/js/app.js").headers
    assert headers.get_list("content-security-policy") == [headers["content-security-policy"]]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-cache"
    assert headers["x-frame-options"] == "DENY"
