"""The API documentation in a real browser."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page
from support.api import start_api


@pytest.fixture
def api(redis_url: str) -> Iterator[httpx.Client]:
    """A web process without a worker."""
    command, url = start_api(REDIS_URL=redis_url)
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client
    command.end()


@pytest.mark.browser
def test_the_api_documentation_works_under_its_policy(page: Page, api: httpx.Client, complaints: list[str]) -> None:
    assert "unsafe" not in api.get("/docs").headers["content-security-policy"]
    page.goto(str(api.base_url.join("/docs")))
    healthz = page.locator(".opblock", has_text="/healthz")
    healthz.locator(".opblock-summary").click()
    healthz.get_by_role("button", name="Try it out").click()
    healthz.get_by_role("button", name="Execute").click()
    healthz.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
    assert complaints == []
