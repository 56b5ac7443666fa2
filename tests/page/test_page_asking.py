"""Follow-up questions and export on the page."""

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect
from support.browsing import PATIENCE_MS, caption_photograph, is_blank, map_is_blank, sentence
from support.command import Service

pytestmark = pytest.mark.browser


def painted(page: Page) -> bool:
    return not is_blank(page, "canvas#mask")


def open_mask(page: Page) -> None:
    page.get_by_text("Mask a part").click()
    expect(page.locator("#frame")).to_have_class(re.compile("painting"))


def shows_source(page: Page, source: str) -> None:
    """Wait until a caption of that source is in view."""
    expect(page.locator('#captions button[aria-pressed="true"] .caption-source')).to_have_text(
        source, timeout=PATIENCE_MS
    )


def test_own_caption_gets_probabilities_and_heatmaps(
    page: Page, service: Service, photo: Path, complaints: list[str]
) -> None:
    caption_photograph(page, service, photo)
    page.get_by_text("Score my own caption").click()
    page.locator("#my-sentence").fill("red xylophones above blue")
    page.keyboard.press("Enter")
    shows_source(page, "yours")

    assert sentence(page) == "red xylophones above blue"
    assert page.locator("button.word").count() == 4
    page.locator("button.word").first.click()
    assert not map_is_blank(page)
    page.locator("button.word").nth(1).hover()
    expect(page.locator("#readout")).to_contain_text("never learned")
    page.locator("#captions button").first.click()
    expect(page.locator("#caption")).not_to_contain_text("xylophones")
    assert complaints == []


def test_another_word_changes_the_caption(page: Page, service: Service, photo: Path, complaints: list[str]) -> None:
    caption_photograph(page, service, photo)
    before = [word.inner_text() for word in page.locator("button.word").all()]
    page.get_by_text("Try another word").click()
    expect(page.locator("#what-if-ask")).to_be_disabled()
    position = len(before) - 1
    page.locator("button.word").nth(position).click()
    page.locator("#what-if-ask").click()

    choices = page.locator("#what-if-choices .choice")
    expect(choices.first).to_be_visible(timeout=PATIENCE_MS)
    shares = [int(share) for share in re.findall(r"(\d+)%", page.locator("#what-if-choices").inner_text())]
    assert shares == sorted(shares, reverse=True)
    expect(page.locator("#what-if-choices [aria-current]")).to_contain_text(before[position])

    other = page.locator("#what-if-choices .choice:not([aria-current])").first
    word = (other.text_content() or "").split("under")[0].rstrip("0123456789%")
    other.click()
    shows_source(page, f"if “{word}”")
    after = sentence(page).split()
    assert after[: position + 1] == [*(text.lower() for text in before[:position]), word]
    expect(page.locator("button.word").nth(position)).to_have_attribute("aria-pressed", "true")
    assert complaints == []


def test_a_mask_shows_which_words_change(page: Page, service: Service, photo: Path, complaints: list[str]) -> None:
    caption_photograph(page, service, photo)
    before = sentence(page).lower().split()
    open_mask(page)
    expect(page.locator("#mask-again")).to_be_disabled()
    page.locator("#brush").fill("40")
    page.locator("#frame").scroll_into_view_if_needed()
    box = page.locator("#frame").bounding_box()
    assert box
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        page.mouse.move(box["x"] + box["width"] * 0.05, box["y"] + box["height"] * share)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * share)
        page.mouse.up()
    assert painted(page)
    picture = page.locator("#photo").get_attribute("src")

    page.locator("#mask-again").click()
    shows_source(page, "masked")
    expect(page.locator("#mask-losses")).to_contain_text("Without that part", timeout=PATIENCE_MS)
    assert page.locator("#photo").get_attribute("src") != picture
    after = sentence(page).lower().split()
    gone = page.locator("#mask-changes del").all_inner_texts()
    come = page.locator("#mask-changes ins").all_inner_texts()
    stayed = page.locator("#mask-changes span").all_inner_texts()
    assert sorted(stayed + gone) == sorted(before)
    assert sorted(stayed + come) == sorted(after)

    page.locator("#captions button").first.click()
    expect(page.locator("#photo")).to_have_attribute("src", picture or "")
    assert complaints == []


def test_keys_paint_and_closing_the_panel_clears_the_mask(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)
    open_mask(page)
    page.locator("#frame").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert painted(page)
    expect(page.locator("#mask-again")).to_be_enabled()
    page.locator("#mask-clear").click()
    assert not painted(page)
    page.locator("#frame").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert painted(page)
    page.get_by_text("Mask a part").click()
    expect(page.locator("#frame")).not_to_have_class(re.compile("painting"))
    assert not painted(page)


def test_failed_question_shows_the_reason(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)
    page.get_by_text("Score my own caption").click()
    page.locator("#my-sentence").fill("!?")
    page.keyboard.press("Enter")
    expect(page.locator("#follow-up-status")).to_contain_text("must contain a word", timeout=PATIENCE_MS)
    expect(page.locator("#follow-up-status")).not_to_contain_text("could not be opened")
    page.locator("#my-sentence").fill("red")
    page.keyboard.press("Enter")
    shows_source(page, "yours")
    expect(page.locator("#follow-up-status")).to_be_empty()


def test_caption_and_alt_text_can_be_copied(page: Page, service: Service, photo: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=service.url)
    caption_photograph(page, service, photo)
    text = page.evaluate("document.getElementById('photo').alt")
    page.locator("#copy-caption").click()
    expect(page.locator("#copy-caption")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == text
    page.locator("#copy-alt").click()
    expect(page.locator("#copy-alt")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == f'alt="{text[0].upper()}{text[1:]}"'
    page.locator("#copy-link").click()
    expect(page.locator("#copy-link")).to_have_text("Copied")
    page.goto("about:blank")
    page.goto(service.url)
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#photo")).to_have_attribute("alt", text, timeout=PATIENCE_MS)


def test_sheet_and_json_can_be_downloaded(page: Page, service: Service, photo: Path) -> None:
    caption_photograph(page, service, photo)
    with page.expect_download() as sheet:
        page.get_by_role("link", name="Contact sheet").click()
    assert Path(sheet.value.path()).read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    job = json.loads(Path(download.value.path()).read_text())
    assert job["captions"][0]["text"] == page.evaluate("document.getElementById('photo').alt")


@pytest.mark.parametrize("own", [False, True], ids=["caption", "my sentence"])
def test_curl_command_repeats_the_request(page: Page, service: Service, photo: Path, own: bool) -> None:
    caption_photograph(page, service, photo)
    if own:
        page.get_by_text("Score my own caption").click()
        page.locator("#my-sentence").fill("it's 'red'")
        page.keyboard.press("Enter")
        shows_source(page, "yours")
    command, *arguments, url = shlex.split(page.locator("#curl").inner_text())
    assert command == "curl"
    given = list(zip(arguments[::2], arguments[1::2], strict=True))
    headers = dict(value.split(": ", 1) for option, value in given if option == "-H")
    fields = dict(value.split("=", 1) for option, value in given if option == "--form-string")
    assert [value for option, value in given if option == "-F"] == [f"image=@{photo.name}"]
    with photo.open("rb") as file:
        job = httpx.post(url, headers=headers, data=fields, files={"image": file}, timeout=60).json()
    assert job["captions"][0]["text"].lower() == sentence(page).lower()
