"""Accessibility of the page: axe-core, touch, narrow screens, reduced motion and screen readers."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from support.browsing import PATIENCE_MS, caption_photograph, map_is_blank, photographs, wait_for_cards, wait_for_state
from support.command import Service

pytestmark = pytest.mark.browser

WIDE, NARROW = (1300, 900), (360, 740)


def serious_violations(page: Page) -> list[str]:
    """Serious violations that axe-core finds on the page: rule and element."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['target']}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_no_serious_violation(
    page: Page, service: Service, tmp_path: Path, scheme: str, size: tuple[int, int]
) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # no half-finished animation
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(service.url)
    assert serious_violations(page) == []

    page.set_input_files("#file", photographs(tmp_path, "red", "green", "blue"))
    wait_for_cards(page, "succeeded", 3)
    assert serious_violations(page) == []

    page.locator("button.word").first.click()
    page.get_by_text("Try another word").click()
    page.locator("#what-if-ask").click()
    expect(page.locator(".choice").first).to_be_visible(timeout=PATIENCE_MS)
    assert serious_violations(page) == []

    page.get_by_text("Mask a part").click()
    expect(page.locator("#frame")).to_have_class(re.compile("painting"))
    page.locator("#frame").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("#mask-again").click()
    expect(page.locator("#mask-losses")).not_to_be_empty(timeout=PATIENCE_MS)
    page.locator("#frame").focus()
    page.keyboard.press("ArrowRight")
    assert serious_violations(page) == []

    text = tmp_path / "notes.txt"
    text.write_text("no photograph")
    page.set_input_files("#file", text)
    wait_for_state(page, "failed")
    assert serious_violations(page) == []


def test_axe_detects_a_violation(page: Page, service: Service) -> None:
    page.goto(service.url)
    page.evaluate("document.querySelector('#samples img').removeAttribute('alt')")
    assert any("image-alt" in violation or "button-name" in violation for violation in serious_violations(page))


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_page_never_scrolls_sideways(page: Page, service: Service, tmp_path: Path, size: tuple[int, int]) -> None:
    def overflow() -> int:
        pixels: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return pixels

    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(service.url)
    assert overflow() <= 0
    page.set_input_files("#file", photographs(tmp_path, "red", "green", "blue", "white", "black", "gray"))
    wait_for_cards(page, "succeeded", 6)
    for panel in page.locator(".follow-up summary").all():
        panel.click()
        assert overflow() <= 0


def test_page_works_by_touch(browser: Browser, service: Service, photo: Path) -> None:
    with browser.new_context(has_touch=True, viewport={"width": NARROW[0], "height": NARROW[1]}) as context:
        phone = context.new_page()
        caption_photograph(phone, service, photo)
        word = phone.locator("button.word").first
        word.tap()
        expect(word).to_have_attribute("aria-pressed", "true")
        assert not map_is_blank(phone)
        word.tap()
        expect(word).to_have_attribute("aria-pressed", "false")
        phone.locator("#frame").tap()
        expect(phone.locator("#marker")).to_be_visible()
        expect(phone.locator("#readout")).to_contain_text(re.compile("Strongest here|stronger here"))
        expect(phone.locator("#ranking li").first).to_be_visible()


def test_reduced_motion_steps_through_words(page: Page, service: Service, photo: Path) -> None:
    page.emulate_media(reduced_motion="reduce")
    caption_photograph(page, service, photo)
    step = page.get_by_role("button", name="Next word")
    words = page.locator("button.word")
    for index in range(min(2, words.count())):
        step.click()
        expect(words.nth(index)).to_have_attribute("aria-pressed", "true")


def test_a_word_is_described_by_its_heatmap(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)
    place = r"strongest at (upper left|top|upper right|left|centre|right|lower left|bottom|lower right)"
    description = re.compile(rf"{place}|rests little on the picture|spread over most of the picture")
    for word in page.locator("button.word").all():
        expect(word).to_have_accessible_description(description)
    page.locator("button.word").first.focus()
    expect(page.locator("#readout")).to_have_attribute("aria-live", "polite")
    expect(page.locator("#readout")).to_contain_text(description)
