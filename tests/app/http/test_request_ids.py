"""Request ids on responses and problems of a real web process."""

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


def test_a_well_formed_id_is_kept_and_any_other_replaced(api: httpx.Client) -> None:
    assert api.get("/healthz", headers={"X-Request-ID": "Trace-1.a_b"}).headers["x-request-id"] == "Trace-1.a_b"
    for sent in ("", "a b", "x" * 65, "a;b", 'a"b'):
        made = api.get("/healthz", headers={"X-Request-ID": sent}).headers["x-request-id"]
        assert made != sent
        assert len(made) == 32
    twice = api.get("/healthz", headers=[("X-Request-ID", "one"), ("X-Request-ID", "two")])
    assert twice.headers["x-request-id"] not in ("one", "two")


def test_every_problem_has_the_request_id(api: httpx.Client) -> None:
    for answer in (
        api.get("/nothing"),
        api.delete("/v1/captions"),
        api.get("/v1/captions/x"),
        api.get("/v1/captions/x?wait=y"),
        api.post("/v1/captions"),
        api.get("/readyz"),
    ):
        assert answer.is_error
        assert answer.json()["request_id"] == answer.headers["x-request-id"] != ""
