"""Versions of a training image and of what is said of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from model.training.views import is_mirrored, view_caption, view_image


def half_and_half(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, (0, 0, 220))
    image.paste((220, 0, 0), (0, 0, size[0] // 2, size[1]))
    return image


def test_the_first_view_is_the_picture_and_the_second_its_mirror_image() -> None:
    image = half_and_half()
    assert view_image(image, 1, "a.jpg", 0).tobytes() == image.tobytes()
    assert view_image(image, 1, "a.jpg", 1).tobytes() == ImageOps.mirror(image).tobytes()


@pytest.mark.parametrize("view", range(8))
def test_every_second_view_is_a_mirror_image(view: int) -> None:
    red, _, blue = view_image(half_and_half(), 1, "a.jpg", view).getpixel((0, 20))
    assert is_mirrored(view) == (blue > red) == (view % 2 == 1)


def test_a_view_depends_on_seed_name_and_number_and_on_nothing_else() -> None:
    image = half_and_half()

    def view(seed: int, name: str, number: int) -> bytes:
        return view_image(image, seed, name, number).tobytes()

    assert view(1, "a.jpg", 2) == view(1, "a.jpg", 2)
    others = [view(1, "a.jpg", 2), view(2, "a.jpg", 2), view(1, "b.jpg", 2), view(1, "a.jpg", 4)]
    assert len(set(others)) == len(others)


def test_making_a_view_leaves_the_picture_alone() -> None:
    image = half_and_half()
    for number in range(4):
        view_image(image, 1, "a.jpg", number)
    assert image.tobytes() == half_and_half().tobytes()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 7))
def test_pictures_of_any_size_keep_their_size(width: int, height: int, view: int) -> None:
    assert view_image(Image.new("RGB", (width, height)), 1, "a.jpg", view).size == (width, height)


def test_a_crop_keeps_at_least_most_of_the_picture() -> None:
    # At most 29 % of a side is cut away, so the middle is always seen whole.
    image = Image.new("RGB", (100, 100), (0, 0, 220))
    image.paste((220, 0, 0), (40, 40, 60, 60))
    for number in range(2, 60, 2):
        view = np.asarray(view_image(image, 1, "a.jpg", number))
        red = (view[:, :, 0] > view[:, :, 2]).sum()
        # 20 x 20 pixels, seen larger by 1/0.6 at most.
        assert 380 <= red <= 400 / 0.6 + 40


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("A dog on the left .", "A dog on the right ."),
        ("a right turn, then LEFT", "a left turn, then right"),
        ("left left right", "right right left"),
        ("a bright cleft rightly uplefted", "a bright cleft rightly uplefted"),
        ("a left-handed man", "a right-handed man"),
        ("A dog .", "A dog ."),
    ],
)
def test_in_a_mirror_left_is_right(caption: str, mirrored: str) -> None:
    assert view_caption(caption, 1) == view_caption(caption, 3) == mirrored
    assert view_caption(caption, 0) == view_caption(caption, 2) == caption


@given(st.text(alphabet="lefright -."))
def test_a_mirrored_mirror_image_is_described_like_the_picture(caption: str) -> None:
    assert view_caption(view_caption(caption, 1), 1) == caption
