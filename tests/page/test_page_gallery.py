"""Several photographs on the page: their states, words as they are decided, and the permalink."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from support.browsing import (
    PATIENCE_MS,
    caption_photograph,
    map_is_blank,
    photographs,
    sentence,
    wait_for_cards,
    wait_for_state,
)
from support.command import Service, free_port, start_command

pytestmark = pytest.mark.browser

# Records the page's state and the number of words each time that the caption changes.
WATCH_CAPTION = """
    window.seen = [];
    document.addEventListener('DOMContentLoaded', () => {
        const caption = document.getElementById('caption');
        new MutationObserver(() => {
            window.seen.push([document.body.dataset.state, caption.querySelectorAll('.word').length]);
        }).observe(caption, { childList: true });
    });
"""


@pytest.fixture
def idle_service(redis_url: str) -> Iterator[Service]:
    """A web process without workers."""
    port = free_port()
    command = start_command("api", WORDLIGHT_PORT=str(port), REDIS_URL=redis_url)
    command.wait_for_line("startup complete")
    yield Service(f"http://127.0.0.1:{port}", command)
    command.end()


def test_several_photographs_are_captioned_side_by_side(
    page: Page, service: Service, tmp_path: Path, complaints: list[str]
) -> None:
    page.goto(service.url)
    page.set_input_files("#file", photographs(tmp_path, "red", "green", "blue", "white", "black", "gray"))
    wait_for_cards(page, "succeeded", 6)
    cards = page.locator("#gallery .card")
    expect(cards.first).to_have_attribute("aria-current", "true")
    expect(page.locator('#gallery [aria-current="true"]')).to_have_count(1)

    for index in range(6):
        cards.nth(index).click()
        expect(cards.nth(index)).to_have_attribute("aria-current", "true")
        assert sentence(page).lower() == cards.nth(index).inner_text().lower()
        assert page.evaluate("document.getElementById('photo').src") == page.evaluate(
            "(index) => document.querySelectorAll('#gallery img')[index].src", index
        )
    assert complaints == []


def test_a_bad_file_fails_alone(page: Page, service: Service, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    page.goto(service.url)
    page.set_input_files("#file", [*photographs(tmp_path, "red", "green"), broken])
    wait_for_cards(page, "succeeded", 2)
    wait_for_cards(page, "failed", 1)
    expect(page.locator("#error")).to_be_hidden()

    page.locator('#gallery li[data-state="failed"] .card').click()
    expect(page.locator("#error")).to_contain_text("damaged")
    page.locator("#gallery .card").first.click()
    expect(page.locator("#error")).to_be_hidden()
    assert page.locator("button.word").count() > 0


def test_all_rejected_photographs_can_be_retried_at_once(page: Page, service: Service, tmp_path: Path) -> None:
    busy = {"type": "about:blank", "title": "Limit reached", "status": 429}
    page.goto(service.url)
    page.route("**/v1/captions", lambda route: route.fulfill(status=429, json=busy))
    page.set_input_files("#file", photographs(tmp_path, "red", "green", "blue"))
    wait_for_cards(page, "failed", 3)
    page.unroute("**/v1/captions")
    page.get_by_role("button", name="Try all 3 again").click()
    wait_for_cards(page, "succeeded", 3)
    expect(page.locator("#error")).to_be_hidden()


def test_words_appear_as_they_are_decided(page: Page, service: Service, tmp_path: Path) -> None:
    picture = tmp_path / "stripes.png"
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(picture)
    page.add_init_script(WATCH_CAPTION)
    page.goto(service.url)
    page.locator("#strategy").select_option("greedy")
    page.set_input_files("#file", picture)
    wait_for_state(page, "succeeded")

    seen: list[tuple[str, int]] = page.evaluate("window.seen")
    written = [words for state, words in seen if state == "processing" and words > 0]
    final = page.locator("button.word").count()
    assert written == list(range(1, final + 1))


def test_another_method_captions_again(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)
    expect(page.locator("#captions button")).to_have_count(3)
    page.locator("#strategy").select_option("sample")
    expect(page.locator("#curl")).to_contain_text("strategy=sample", timeout=PATIENCE_MS)
    expect(page.locator("#captions button")).to_have_count(3)


def test_queue_position_is_shown(page: Page, idle_service: Service, tmp_path: Path) -> None:
    page.goto(idle_service.url)
    page.set_input_files("#file", photographs(tmp_path, "red", "green", "blue"))
    wait_for_cards(page, "queued", 3)
    cards = [page.locator("#gallery .card").nth(index) for index in range(3)]
    # They are sent concurrently, so their order may vary.
    expect(page.locator("#gallery")).to_contain_text("1 ahead", timeout=PATIENCE_MS)
    expect(page.locator("#gallery")).to_contain_text("2 ahead", timeout=PATIENCE_MS)
    assert sorted(card.inner_text() for card in cards) == [
        "In the queue",
        "In the queue, 1 ahead",
        "In the queue, 2 ahead",
    ]
    expect(page.locator("#status")).to_contain_text("In the queue")


def test_cancel_cancels_the_job(page: Page, idle_service: Service, photo: Path) -> None:
    page.goto(idle_service.url)
    page.set_input_files("#file", photo)
    wait_for_state(page, "queued")
    with page.expect_response(lambda answer: answer.url.endswith("/cancel")) as canceled:
        page.get_by_role("button", name="Cancel").click()
    job = canceled.value.url.removesuffix("/cancel")
    assert httpx.get(job).json()["status"] == "canceled"
    wait_for_state(page, "idle")
    expect(page.locator("#status")).to_have_text("Canceled.")


def test_removed_photographs_disappear(page: Page, service: Service, tmp_path: Path) -> None:
    page.goto(service.url)
    page.set_input_files("#file", photographs(tmp_path, "red", "green"))
    wait_for_cards(page, "succeeded", 2)
    left = page.locator("#gallery .card").nth(1).inner_text()
    page.get_by_role("button", name="Remove red.png").click()
    expect(page.locator("#gallery-section")).to_be_hidden()
    assert sentence(page).lower() == left.lower()


def test_everything_survives_a_reload(page: Page, service: Service, tmp_path: Path, complaints: list[str]) -> None:
    page.goto(service.url)
    page.set_input_files("#file", photographs(tmp_path, "red", "green"))
    wait_for_cards(page, "succeeded", 2)
    page.locator("#gallery .card").nth(1).click()
    before = sentence(page)

    page.reload()
    wait_for_cards(page, "succeeded", 2)
    wait_for_state(page, "succeeded")
    assert sentence(page) == before
    expect(page.locator("#gallery .card").nth(1)).to_have_attribute("aria-current", "true")
    page.wait_for_function("document.getElementById('photo').naturalWidth > 0")
    page.locator("button.word").first.click()
    assert not map_is_blank(page)
    # Follow-up questions use the service's copy of the picture.
    page.get_by_text("Score my own caption").click()
    page.locator("#my-sentence").fill("red")
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.locator("#captions button").last).to_contain_text("yours", timeout=PATIENCE_MS)
    assert complaints == []


def test_link_to_a_deleted_job_shows_the_reason(page: Page, service: Service, photo: Path) -> None:
    with photo.open("rb") as file:
        job: dict[str, Any] = httpx.post(f"{service.url}/v1/captions", files={"image": file}).json()
    httpx.delete(service.url + job["links"]["self"])
    page.goto(f"{service.url}/#jobs={job['id']}")
    wait_for_state(page, "failed")
    expect(page.locator("#error")).to_contain_text("no longer kept")
    expect(page.locator("#error")).to_contain_text("Choose the photograph again")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
