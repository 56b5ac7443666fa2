"""The page of a service that needs keys, with and without a key."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect
from support.api import basic, bearer, make_key, problem, run_keys
from support.browsing import drop_file, map_is_blank, sentence, wait_for_state
from support.running import Running, running

pytestmark = pytest.mark.browser

# What Chromium logs for every refused request.
REFUSED = re.compile("Failed to load resource: the server responded with a status of 401")


@dataclass(frozen=True)
class KeyedService:
    """A service that needs keys, and three keys; a test may revoke the key `brief`."""

    service: Running
    secret: str
    other_secret: str
    brief_secret: str

    @property
    def url(self) -> str:
        return self.service.url


@pytest.fixture(scope="module")
def keyed(tiny_captioner: Path) -> Iterator[KeyedService]:
    with running(tiny_captioner, WORDLIGHT_REQUIRE_KEYS="true") as service:
        names = ("owner", "another", "brief")
        yield KeyedService(service, *(make_key(service.redis_url, name)[1] for name in names))


def signed_in(browser: Browser, secret: str) -> Page:
    """A page in a browser with that key as the password."""
    return browser.new_context(http_credentials={"username": "anything", "password": secret}).new_page()


def complaints_of(page: Page) -> list[str]:
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: messages.append(str(error)))
    return messages


def test_whole_page_works_with_a_key(browser: Browser, keyed: KeyedService, photo: Path) -> None:
    page = signed_in(browser, keyed.secret)
    complaints = complaints_of(page)
    followed: list[int] = []
    page.on("response", lambda answer: followed.append(answer.status) if "/events?ticket=" in answer.url else None)
    page.goto(keyed.url)
    page.locator("#strategy").select_option("greedy")
    drop_file(page, photo.name, "image/jpeg", photo.read_bytes())
    wait_for_state(page, "succeeded")
    assert followed == [200]

    caption = sentence(page)
    assert page.locator("button.word").count() == len(caption.split()) > 0
    page.locator("button.word").first.hover()
    assert not map_is_blank(page)
    page.mouse.move(0, 0)

    # Follow-up questions and export.
    page.get_by_text("Score my own caption").click()
    page.locator("#my-sentence").fill("red over blue")
    page.keyboard.press("Enter")
    expect(page.locator('#captions button[aria-pressed="true"] .caption-source')).to_have_text("yours")
    page.locator("#captions button").first.click()
    with page.expect_download() as sheet:
        page.get_by_role("link", name="Contact sheet").click()
    assert Path(sheet.value.path()).read_bytes().startswith(b"\x89PNG")

    page.reload()
    wait_for_state(page, "succeeded")
    assert sentence(page) == caption
    assert page.evaluate("document.querySelector('#photo').decode().then(() => true)")
    page.locator("button.word").first.hover()
    assert not map_is_blank(page)
    assert complaints == []

    # The curl command of the page needs nothing but the key.
    fetch, ask = (shlex.split(line) for line in page.locator("#curl").inner_text().splitlines())
    for command in (fetch, ask):
        assert command[1:3] == ["-H", "Authorization: Bearer YOUR-KEY"]
    assert httpx.get(fetch[-1], headers=bearer(keyed.secret)).headers["content-type"] == "image/jpeg"

    # Another key cannot open the link.
    other = signed_in(browser, keyed.other_secret)
    other.goto(page.url)
    wait_for_state(other, "failed")
    expect(other.locator("#error")).to_contain_text("does not exist")


def cancelled(route: Route) -> None:
    """Simulate closing the browser's password dialog, which a headless browser does not have."""
    answer = route.fetch()
    headers = {name: value for name, value in answer.headers.items() if name != "www-authenticate"}
    assert headers != answer.headers
    route.fulfill(response=answer, headers=headers)


def test_page_without_a_key_explains_what_to_do(page: Page, keyed: KeyedService) -> None:
    page.route("**", cancelled)
    for path in ("/", "/docs"):
        answer = page.goto(keyed.url + path)
        assert answer
        assert answer.status == 401
        expect(page.get_by_role("heading")).to_have_text("This service needs a key")
        expect(page.get_by_role("main")).to_contain_text("the password is your key")


def test_revoked_key_shows_what_to_do(browser: Browser, keyed: KeyedService, photo: Path) -> None:
    page = signed_in(browser, keyed.brief_secret)
    complaints = complaints_of(page)
    page.goto(keyed.url)
    assert run_keys("revoke", "brief", REDIS_URL=keyed.service.redis_url).returncode == 0
    page.set_input_files("#file", photo)
    wait_for_state(page, "failed")
    expect(page.locator("#error")).to_contain_text("needs a key")
    expect(page.locator("#error")).to_contain_text("Reload this page")
    assert not [complaint for complaint in complaints if not REFUSED.match(complaint)]


def test_programs_get_a_problem_document(keyed: KeyedService) -> None:
    with httpx.Client(base_url=keyed.url) as client:
        for headers in ({}, {"Accept": "application/json"}, basic("anybody", "nonsense"), {"Accept": "*/*"}):
            answer = client.get("/", headers=headers)
            problem(answer, 401, "unauthorized")
        posted = client.post("/v1/captions", headers={"Accept": "text/html"})
        problem(posted, 401, "unauthorized")
        page = client.get("/", headers={"Accept": "text/html,*/*;q=0.8"} | basic("anybody", "nonsense"))
        assert (page.status_code, page.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert page.headers.get_list("www-authenticate") == posted.headers.get_list("www-authenticate") != []
        assert client.head("/", headers={"Accept": "text/html"}).status_code == 401
