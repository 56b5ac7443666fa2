"""Pictures to input tensors of the encoder."""

import numpy as np
import pytest
import torch
from PIL import Image

from model.runtime.pixels import as_stored, normalise, to_pixels


def halves(size: tuple[int, int]) -> Image.Image:
    """Return a picture that is red on the left and blue on the right."""
    image = Image.new("RGB", size, (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1]))
    return image


@pytest.mark.parametrize("size", [(200, 50), (50, 200), (64, 64), (1, 1), (3000, 2)])
def test_a_picture_of_any_shape_becomes_a_square_of_bytes(size: tuple[int, int]) -> None:
    pixels = to_pixels(Image.new("RGB", size, (10, 20, 30)), 32)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert [channel.unique().tolist() for channel in pixels] == [[10], [20], [30]]


def test_pictures_are_stretched_not_cropped() -> None:
    red, green, blue = to_pixels(halves((400, 40)), 32)
    assert (red[:, :14] > 250).all()
    assert (blue[:, 18:] > 250).all()
    assert not green.any()


def test_rows_run_down_and_columns_run_right() -> None:
    image = Image.new("RGB", (8, 8))
    image.putpixel((6, 1), (255, 255, 255))
    assert to_pixels(image, 8)[0].nonzero().tolist() == [[1, 6]]


def test_pixels_do_not_share_memory_with_the_picture() -> None:
    image = halves((32, 32))
    to_pixels(image, 32).zero_()
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_grey_pictures_are_accepted() -> None:
    pixels = to_pixels(Image.new("L", (20, 20), 77), 16)
    assert pixels.unique().tolist() == [77]


def test_normalised_pixels_run_from_minus_one_to_one() -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    assert normalise(pixels).flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6])
    assert normalise(pixels).dtype == torch.float32


def test_normalise_does_not_change_its_input() -> None:
    pixels = torch.full((3, 2, 2), 9, dtype=torch.uint8)
    normalise(pixels)
    assert pixels.unique().tolist() == [9]


def test_as_stored_stretches_and_compresses_like_the_training_images() -> None:
    picture = Image.linear_gradient("L").resize((640, 480)).convert("RGB")
    stored = as_stored(picture, 224)
    assert stored.size == (224, 224)
    assert stored.format == "JPEG"
    difference = np.abs(np.asarray(stored, float) - np.asarray(picture.resize((224, 224)), float))
    assert 0 < difference.mean() < 3
    small = picture.resize((224, 224))
    assert as_stored(small, 224) is small
