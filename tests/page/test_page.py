"""The page in a real browser, against a real service with a tiny model.

The captions of the tiny model are unpredictable, so no test depends on certain words. No test sleeps: each step waits
for the state in `body[data-state]`.
"""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect
from support.browsing import caption_photograph, drop_file, map_is_blank, map_pixels, wait_for_state
from support.command import Service

pytestmark = pytest.mark.browser


def test_photograph_gets_caption(page: Page, service: Service, photo: Path, complaints: list[str]) -> None:
    page.goto(service.url)
    expect(page.locator("body")).to_have_attribute("data-state", "idle")
    expect(page.locator("#error")).to_be_hidden()

    page.set_input_files("#file", photo)
    wait_for_state(page, "succeeded")

    expect(page.locator("#caption")).to_have_text(re.compile(r"\S"))
    assert page.locator("#caption button.word").count() > 0
    expect(page.locator("#status")).to_contain_text("ready")
    expect(page.locator("#error")).to_be_hidden()
    assert complaints == []


def test_pointing_at_word_draws_its_map(page: Page, service: Service, photo: Path, complaints: list[str]) -> None:
    caption_photograph(page, service, photo)
    before = map_pixels(page)
    assert map_is_blank(page)

    page.locator("button.word").first.hover()

    expect(page.locator("button.word").first).to_have_class(re.compile(r"\bshown\b"))
    assert map_pixels(page) != before
    assert not map_is_blank(page)
    expect(page.locator("#readout")).to_contain_text("Probability")
    assert complaints == []


def test_map_lies_exactly_over_photograph(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)

    assert page.locator("canvas#heatmap").bounding_box() == page.locator("#photo").bounding_box()


def test_cells_and_spotlight_draw_another_map(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)
    page.locator("button.word").first.click()
    seen = {map_pixels(page)}

    for label in ("Spotlight", "Cells", "Heat"):
        page.get_by_role("radio", name=label).check()
        seen.add(map_pixels(page))

    assert len(seen) == 4


def test_click_pins_a_word_and_second_click_releases_it(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)
    word = page.locator("button.word").first

    word.click()
    expect(word).to_have_attribute("aria-pressed", "true")
    page.locator("#status").hover()
    assert not map_is_blank(page)

    word.click()
    expect(word).to_have_attribute("aria-pressed", "false")
    page.locator("#status").hover()
    assert map_is_blank(page)


def test_arrow_keys_move_between_words(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)
    words = page.locator("button.word")
    last = words.count() - 1

    words.first.focus()
    assert not map_is_blank(page)
    page.keyboard.press("ArrowRight")
    expect(words.nth(min(1, last))).to_be_focused()
    page.keyboard.press("End")
    expect(words.nth(last)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(words.nth(last)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(words.nth(max(0, last - 1))).to_be_focused()
    page.keyboard.press("Home")
    expect(words.first).to_be_focused()
    page.keyboard.press("Enter")
    expect(words.first).to_have_attribute("aria-pressed", "true")

    page.keyboard.press("Escape")
    expect(page.locator("button.word[aria-pressed=true]")).to_have_count(0)
    assert map_is_blank(page)


def test_pointing_at_the_photograph_lists_the_strongest_words(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)

    page.locator("#frame").hover()

    expect(page.locator("#marker")).to_be_visible()
    expect(page.locator("#readout")).to_contain_text(re.compile("Strongest here|stronger here"))


def test_dropped_photograph_gets_caption(page: Page, service: Service, photo: Path, complaints: list[str]) -> None:
    page.goto(service.url)

    drop_file(page, photo.name, "image/jpeg", photo.read_bytes())

    wait_for_state(page, "succeeded")
    assert page.locator("button.word").count() > 0
    assert complaints == []


def test_sample_gets_caption(page: Page, service: Service, complaints: list[str]) -> None:
    page.goto(service.url)

    page.locator("#samples button").first.click()

    wait_for_state(page, "succeeded")
    assert complaints == []


def test_text_file_gets_readable_error(page: Page, service: Service, photo: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("This is not a photograph.\n")
    page.goto(service.url)

    page.set_input_files("#file", text)

    wait_for_state(page, "failed")
    expect(page.locator("#error")).to_be_visible()
    message = page.locator("#error").inner_text()
    assert "photograph" in message
    assert "Choose" in message  # what to do about it
    assert not re.search(r"[{}<>]|Traceback|undefined|null", message)

    # The next photograph removes the error.
    page.set_input_files("#file", photo)
    wait_for_state(page, "succeeded")
    expect(page.locator("#error")).to_be_hidden()


def test_busy_service_can_be_tried_again(page: Page, service: Service, photo: Path) -> None:
    def refuse(route: Route) -> None:
        problem = {"type": "about:blank", "title": "Busy", "status": 503, "detail": "The queue is <b>full</b>."}
        route.fulfill(
            status=503,
            headers={"Retry-After": "7"},
            content_type="application/problem+json",
            body=json.dumps(problem),
        )

    page.goto(service.url)
    page.route("**/v1/captions", refuse)
    page.set_input_files("#file", photo)
    wait_for_state(page, "failed")
    # The service's detail is shown as text, never as HTML.
    expect(page.locator("#error")).to_contain_text("The queue is <b>full</b>.")
    expect(page.locator("#error")).to_contain_text("7 seconds")

    page.unroute("**/v1/captions")
    page.get_by_role("button", name="Try again").click()
    wait_for_state(page, "succeeded")


def test_lost_event_stream_falls_back_to_polling(page: Page, service: Service, photo: Path) -> None:
    page.route("**/events", lambda route: route.abort())

    caption_photograph(page, service, photo)

    assert page.locator("button.word").count() > 0


def test_narrow_screen_needs_no_sideways_scrolling(page: Page, service: Service, photo: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    caption_photograph(page, service, photo)
    page.locator("button.word").first.click()

    overflow: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
