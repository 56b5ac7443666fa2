"""Heatmaps as PNG files: positions, colours, and contact sheets of any picture and text."""

import io
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Page, Route

from app.rendering.contact_sheet import MOST_WORDS, contact_sheet
from app.rendering.overlay import INFERNO, word_overlay
from jobs.job import Caption, Word, WordMap

STATIC = Path(__file__).parents[3] / "app" / "static"
GREY = (118, 118, 118)


def working_image(width: int, height: int, colour: tuple[int, int, int] = GREY) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    assert image.mode == "RGB"
    return image


def one_hot(row: int, col: int, rows: int = 9, cols: int = 9) -> WordMap:
    weights = [0.0] * (rows * cols)
    weights[row * cols + col] = 1.0
    return WordMap(rows=rows, cols=cols, weights=weights)


def slope(rows: int = 9, cols: int = 9) -> WordMap:
    """A grid whose weights are all different."""
    count = rows * cols
    return WordMap(rows=rows, cols=cols, weights=[2 * i / (count * (count - 1)) for i in range(count)])


def caption(*texts: str, heatmap: WordMap | None = None) -> Caption:
    words = [Word(text=text, logprob=-1.0, heatmap=heatmap or slope()) for text in texts]
    return Caption(text=" ".join(texts), logprob=-2.0, words=words)


def over_grey(entry: int) -> tuple[int, ...]:
    """The colour of an entry of the scale over grey, mixed as on the page."""
    cover = round(255 * 0.65 * (0.6 + 0.4 * entry / 255)) / 255
    return tuple(round(heat * cover + grey * (1 - cover)) for heat, grey in zip(INFERNO[entry], GREY, strict=True))


def near(pixel: object, colour: tuple[int, ...], tolerance: int = 2) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True))


def test_the_colour_map_is_inferno() -> None:
    assert len(INFERNO) == 256
    assert (INFERNO[0], INFERNO[64], INFERNO[128], INFERNO[255]) == (
        (0, 0, 4),
        (87, 16, 110),
        (188, 55, 84),
        (252, 255, 164),
    )


# Cells have an odd width and height in pixels, so that a pixel is at each centre.
@pytest.mark.parametrize("size", [(75, 45), (55, 99), (305, 63)])
def test_each_cell_covers_its_part_of_the_picture(size: tuple[int, int]) -> None:
    rows, cols = 3, 5
    picture = working_image(*size)
    for row in range(rows):
        for col in range(cols):
            image = opened(word_overlay(picture, one_hot(row, col, rows, cols)))
            assert image.size == size
            for r in range(rows):
                for c in range(cols):
                    centre = int((c + 0.5) / cols * size[0]), int((r + 0.5) / rows * size[1])
                    lit = (r, c) == (row, col)
                    assert near(image.getpixel(centre), over_grey(255 if lit else 0)), (row, col, r, c)


@pytest.mark.parametrize(("row", "col", "x", "y"), [(0, 0, 0, 0), (0, 8, 1, 0), (8, 0, 0, 1), (8, 8, 1, 1)])
def test_heat_is_constant_beyond_the_outermost_centres(row: int, col: int, x: int, y: int) -> None:
    width, height = 180, 90
    image = opened(word_overlay(working_image(width, height), one_hot(row, col)))
    assert near(image.getpixel((x * (width - 1), y * (height - 1))), over_grey(255))
    assert near(image.getpixel(((1 - x) * (width - 1), (1 - y) * (height - 1))), over_grey(0))
    warm = ImageChops.difference(image, Image.new("RGB", image.size, image.getpixel((width // 2, height // 2))))
    # From the corner to the centre of the neighbouring cell, where the weight is 0 again.
    reach = Image.eval(warm, lambda value: value if value > 2 else 0).getbbox()
    assert reach
    left, upper, right, lower = reach
    assert (right - left, lower - upper) == pytest.approx((1.5 * width / 9, 1.5 * height / 9), abs=2)
    assert (left == 0) == (x == 0)
    assert (upper == 0) == (y == 0)


def test_heat_is_linear_between_centres() -> None:
    image = opened(word_overlay(working_image(400, 10), WordMap(rows=1, cols=2, weights=[0.0, 1.0])))
    for x in range(400):
        share = min(1.0, max(0.0, (x + 0.5) / 200 - 0.5))
        assert near(image.getpixel((x, 5)), over_grey(round(share * 255)))


def test_the_scale_defaults_to_the_peak() -> None:
    picture = working_image(90, 90)
    faint = WordMap(rows=1, cols=1, weights=[0.25])
    assert near(opened(word_overlay(picture, faint)).getpixel((45, 45)), over_grey(255))
    assert near(opened(word_overlay(picture, faint, scale=0.5)).getpixel((45, 45)), over_grey(128))
    assert near(opened(word_overlay(picture, faint, scale=0.1)).getpixel((45, 45)), over_grey(255))
    nothing = WordMap(rows=1, cols=1, weights=[0.0])
    assert near(opened(word_overlay(picture, nothing)).getpixel((45, 45)), over_grey(0))


@pytest.mark.parametrize("size", [(1, 1), (768, 1), (1, 768), (768, 96)])
@pytest.mark.parametrize("heatmap", [one_hot(0, 0, 1, 1), slope(), slope(24, 24)])
def test_pictures_of_any_shape_have_overlays_and_sheets(size: tuple[int, int], heatmap: WordMap) -> None:
    picture = working_image(*size)
    assert opened(word_overlay(picture, heatmap)).size == size
    sheet = opened(contact_sheet(picture, caption("a", "thin", "picture", heatmap=heatmap)))
    assert max(sheet.size) <= 1200


def test_the_description_is_the_only_metadata() -> None:
    image = opened(word_overlay(working_image(9, 9), slope(), description="dog\n\0\x1b\ud800\u2028 犬"))
    assert image.info == {"Description": "dog      犬"}
    assert opened(word_overlay(working_image(9, 9), slope())).info == {}
    assert opened(contact_sheet(working_image(9, 9), caption("a", "dog"))).info == {"Description": "a dog"}


def test_function_words_are_in_brackets() -> None:
    picture = working_image(300, 200)
    sentence = caption("a", "dog", "(a)", heatmap=one_hot(0, 0))
    plain = opened(contact_sheet(picture, sentence))
    marked = opened(contact_sheet(picture, sentence, function_words={"a"}))
    # A note explains the brackets. Only the first word changes: it looks like the third.
    assert marked.height > plain.height
    changed = ImageChops.difference(plain, marked.crop((0, 0, *plain.size))).getbbox()
    assert changed
    same = opened(contact_sheet(picture, caption("(a)", "dog", "(a)", heatmap=one_hot(0, 0))))
    panels = (0, 100, plain.width, plain.height - 140)
    assert ImageChops.difference(marked.crop(panels), same.crop(panels)).getbbox() is None
    assert ImageChops.difference(marked.crop(panels), plain.crop(panels)).getbbox() is not None
    unnamed = opened(contact_sheet(picture, sentence, function_words={"the"}))
    assert ImageChops.difference(unnamed, plain).getbbox() is None


def test_a_sheet_has_a_panel_for_each_word_in_reading_order() -> None:
    picture = working_image(300, 200)
    texts = ["one", "two", "three", "four", "five"]
    before = caption(*texts, heatmap=one_hot(0, 0))
    sheet = opened(contact_sheet(picture, before))
    panels = []
    for index in range(len(texts)):
        after = before.model_copy(deep=True)
        after.words[index].heatmap = one_hot(8, 8)
        box = ImageChops.difference(sheet, opened(contact_sheet(picture, after))).getbbox()
        assert box
        panels.append(box)
    sizes = {(right - left, lower - upper) for left, upper, right, lower in panels}
    assert len(sizes) == 1
    width, height = sizes.pop()
    assert width / height == pytest.approx(300 / 200, rel=0.02)  # only the panel of the changed word differs
    assert panels == sorted(panels, key=lambda box: (box[1], box[0]))
    assert len({upper for _, upper, _, _ in panels}) == 2
    # The plain picture is before the first word.
    left, upper, _, _ = panels[0]
    assert near(sheet.getpixel((left - width // 2, upper + height // 2)), GREY)


@pytest.mark.parametrize("size", [(768, 512), (512, 768), (768, 768), (768, 1), (1, 768)])
def test_a_hundred_words_stay_within_bounds(size: tuple[int, int]) -> None:
    sheet = opened(contact_sheet(working_image(*size), caption(*["skateboarding"] * 100)))
    assert max(sheet.size) <= 4096
    assert 0.75 < sheet.width / sheet.height < 1.75


def test_words_beyond_the_maximum_are_omitted_with_a_note() -> None:
    picture = working_image(60, 40)
    words = caption(*["a"] * 5 * MOST_WORDS).words
    full = opened(contact_sheet(picture, Caption(text="a", logprob=-1.0, words=words[:MOST_WORDS])))
    cut = opened(contact_sheet(picture, Caption(text="a", logprob=-1.0, words=words)))
    assert cut.width == full.width
    assert full.height < cut.height < full.height + 50  # one line of text more, and no more panels


@pytest.mark.parametrize(
    "text",
    [
        *(
            "犬",
            "🐶👩\u200d👧",
            "שלום",
            "e\u0301\u0327",
            "a\nb\r\t",
            "\0\x1b[31m",
            "\u202eabc",
            "\ue000\U0010fffd",
            "",
            " ",
        ),
        *("w" * 100_000, "w " * 50_000, "\n" * 10_000),
    ],
    ids=lambda text: ascii(text[:8]),
)
def test_any_text_can_be_drawn(text: str) -> None:
    sheet = opened(contact_sheet(working_image(60, 40), caption("a", text)))
    assert max(sheet.size) <= 1200


def test_words_without_a_heatmap_show_the_plain_picture() -> None:
    picture = working_image(60, 40)
    with_heatmap = caption("a", "dog", heatmap=one_hot(4, 4))
    without = with_heatmap.model_copy(deep=True)
    without.words[1].heatmap = None
    difference = ImageChops.difference(
        opened(contact_sheet(picture, with_heatmap)), opened(contact_sheet(picture, without))
    )
    box = difference.getbbox()
    assert box
    sheet = opened(contact_sheet(picture, without))
    assert near(sheet.getpixel(((box[0] + box[2]) // 2, box[1] + 40)), GREY)
    opened(contact_sheet(picture, Caption(text="", logprob=0.0, words=[])))


def test_one_scale_for_the_caption_dims_weaker_words() -> None:
    picture = working_image(60, 40)
    both = caption("strong", "weak", heatmap=one_hot(0, 0, 1, 1))
    both.words[1].heatmap = WordMap(rows=1, cols=1, weights=[0.5])
    own, shared = opened(contact_sheet(picture, both, "word")), opened(contact_sheet(picture, both, "caption"))
    height = min(own.height, shared.height) // 2  # above the legend, which differs
    box = ImageChops.difference(own, shared).crop((0, 0, own.width, height)).getbbox()
    assert box
    centre = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    assert near(own.getpixel(centre), over_grey(255))
    assert near(shared.getpixel(centre), over_grey(128))


@pytest.mark.browser
def test_an_overlay_looks_as_on_the_page(page: Page) -> None:
    def serve(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name == "index":
            route.fulfill(body="<!doctype html>", content_type="text/html")
        elif name == "inferno.json":
            route.fulfill(path=STATIC / name, content_type="application/json")
        else:
            route.fulfill(path=STATIC / "js" / "view" / name, content_type="text/javascript")

    page.route("**/*", serve)
    page.goto("http://wordlight.test/index")
    size = (320, 240)  # the size of the page's canvas for smooth maps
    heatmap = slope(7, 9)
    pixels = page.evaluate(
        """async ([grid, grey, top]) => {
            const { drawMap } = await import("/heatmap.js");
            const map = document.createElement("canvas");
            drawMap(map, grid, { mode: "heat", smooth: true, top, strength: 0.65, aspect: 4 / 3 });
            const canvas = Object.assign(document.createElement("canvas"), { width: map.width, height: map.height });
            const context = canvas.getContext("2d");
            context.fillStyle = `rgb(${grey})`;
            context.fillRect(0, 0, canvas.width, canvas.height);
            context.drawImage(map, 0, 0);
            return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
        }""",
        [heatmap.model_dump(), GREY, max(heatmap.weights)],
    )
    on_page = Image.frombytes("RGBA", size, bytes(pixels)).convert("RGB")
    ours = opened(word_overlay(working_image(*size), heatmap))
    extrema = ImageChops.difference(on_page, ours).getextrema()
    assert all(most <= 3 for _, most in extrema), extrema
