"""Actions on the page in a browser, and waiting for the states that the page declares in its attributes."""

import base64
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from support.command import Service

PATIENCE_MS = 60_000  # the first caption also waits for the worker to load its model


def wait_for_state(page: Page, state: str) -> None:
    """Wait until the photograph in view is in that state."""
    expect(page.locator("body")).to_have_attribute("data-state", state, timeout=PATIENCE_MS)


def wait_for_cards(page: Page, state: str, count: int) -> None:
    """Wait until so many photographs of the gallery are in that state."""
    expect(page.locator(f'#gallery li[data-state="{state}"]')).to_have_count(count, timeout=PATIENCE_MS)


def caption_photograph(page: Page, service: Service, photo: Path) -> None:
    """Open the page and caption a photograph."""
    page.goto(service.url)
    page.set_input_files("#file", photo)
    wait_for_state(page, "succeeded")


def photographs(folder: Path, *colours: str) -> list[Path]:
    """Write pictures of one colour each; return their paths."""
    paths = [folder / f"{colour}.png" for colour in colours]
    for path in paths:
        Image.new("RGB", (64, 48), path.stem).save(path)
    return paths


def sentence(page: Page) -> str:
    """Return the caption in view."""
    text: str = page.locator("#caption").text_content() or ""
    return text


def map_pixels(page: Page) -> str:
    """Return the heatmap over the photograph as a data URL."""
    pixels: str = page.evaluate("document.querySelector('canvas#heatmap').toDataURL()")
    return pixels


def is_blank(page: Page, canvas: str) -> bool:
    """Whether nothing is painted on a canvas."""
    blank: bool = page.evaluate(
        """(selector) => {
            const canvas = document.querySelector(selector);
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            return data.every((value) => value === 0);
        }""",
        canvas,
    )
    return blank


def map_is_blank(page: Page) -> bool:
    """Whether there is no heatmap over the photograph."""
    return is_blank(page, "canvas#heatmap")


def drop_file(page: Page, name: str, media_type: str, content: bytes) -> None:
    """Drop a file on the page."""
    page.evaluate(
        """({ name, mediaType, content }) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], name, { type: mediaType }));
            for (const type of ['dragenter', 'dragover', 'drop']) {
                const options = { dataTransfer, bubbles: true, cancelable: true };
                document.querySelector('main').dispatchEvent(new DragEvent(type, options));
            }
        }""",
        {"name": name, "mediaType": media_type, "content": base64.b64encode(content).decode()},
    )
