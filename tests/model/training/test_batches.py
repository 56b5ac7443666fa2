"""Padded captions, and the order of training batches."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from model.text.vocabulary import END, PAD, START, Vocabulary
from model.training.batches import Batch, Batches, Size, pad_captions
from model.training.dataset import Sample

VOCABULARY = Vocabulary(["a", "dog", "left", "right"])
A, DOG, LEFT, RIGHT = VOCABULARY.encode("a dog left right")


def make_batches(count: int = 10, size: int = 3, views: int = 4, max_words: int = 9, seed: int = 1) -> Batches:
    """Make samples. Image i has 1 + i % 3 captions."""
    samples = [Sample(f"{i}.jpg", b"", ["a dog left", "a dog", "a"][: 1 + i % 3]) for i in range(count)]
    return Batches(samples, VOCABULARY, views=views, size=size, max_words=max_words, seed=seed)


def images_of(batches: list[Batch]) -> list[int]:
    return [int(image) for batch in batches for image in batch.images]


def same(one: Batch, other: Batch) -> bool:
    arrays = np.array_equal(one.images, other.images) and np.array_equal(one.views, other.views)
    return arrays and torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)


def test_captions_are_padded_and_missing_captions_are_rows_of_padding() -> None:
    inputs, targets = pad_captions([[[A, DOG], [A]], [[DOG]]], most=9)
    assert inputs.tolist() == [[[START, A, DOG], [START, A, PAD]], [[START, DOG, PAD], [PAD, PAD, PAD]]]
    assert targets.tolist() == [[[A, DOG, END], [A, END, PAD]], [[DOG, END, PAD], [PAD, PAD, PAD]]]
    assert inputs.dtype == targets.dtype == torch.int64


def test_an_empty_caption_is_only_the_end() -> None:
    inputs, targets = pad_captions([[[], [A]]], most=9)
    assert inputs.tolist() == [[[START, PAD], [START, A]]]
    assert targets.tolist() == [[[END, PAD], [A, END]]]


def test_every_image_comes_with_its_own_captions() -> None:
    for batch in make_batches(views=2).epoch(0):
        for row, (image, view) in enumerate(zip(batch.images, batch.views, strict=True)):
            side = RIGHT if view == 1 else LEFT
            expected = [[A, DOG, side, END], [A, DOG, END, PAD], [A, END, PAD, PAD]][: 1 + image % 3]
            rows = batch.targets[row].tolist()
            assert rows[: len(expected)] == expected
            assert all(token == PAD for tokens in rows[len(expected) :] for token in tokens)


@pytest.mark.parametrize(
    ("count", "size", "lengths"),
    [(10, 5, [5, 5]), (10, 4, [4, 4, 2]), (9, 4, [4, 4]), (5, 3, [3, 2]), (4, 3, [3]), (2, 8, [2]), (1, 1, [1])],
)
def test_a_last_batch_below_half_the_size_is_left_out(count: int, size: int, lengths: list[int]) -> None:
    batches = make_batches(count, size)
    epoch = list(batches.epoch(0))
    assert [len(batch.images) for batch in epoch] == lengths
    assert len(batches) == len(lengths)
    images = images_of(epoch)
    assert len(set(images)) == len(images) == sum(lengths), "no image occurs twice"
    assert set(images) <= set(range(count))


def test_the_images_left_out_differ_between_epochs() -> None:
    batches = make_batches(count=9, size=4)
    assert {image for epoch in range(8) for image in images_of(list(batches.epoch(epoch)))} == set(range(9))


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    batches = make_batches(count=30)
    third = list(batches.epoch(3))
    list(batches.epoch(0))
    torch.manual_seed(5)
    assert all(same(*pair) for pair in zip(third, make_batches(count=30).epoch(3), strict=True))
    assert all(same(*pair) for pair in zip(third, batches.epoch(3), strict=True))
    assert images_of(third) != images_of(list(batches.epoch(4)))
    assert images_of(third) != images_of(list(make_batches(count=30, seed=2).epoch(3)))


@pytest.mark.parametrize("first", range(5))
def test_an_epoch_resumes_at_any_batch(first: int) -> None:
    batches = make_batches(count=11, size=3)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, first=first))
    assert len(whole) == 4
    assert len(rest) == 4 - first
    assert all(same(*pair) for pair in zip(whole[first:], rest, strict=True))


def test_all_views_occur() -> None:
    batches = make_batches(count=30, views=3)
    assert {int(view) for epoch in range(4) for batch in batches.epoch(epoch) for view in batch.views} == {0, 1, 2}
    epochs = [[batch.views.tolist() for batch in batches.epoch(epoch)] for epoch in range(4)]
    assert all(one != other for one, other in pairwise(epochs))


def test_with_one_view_no_caption_is_mirrored() -> None:
    for batch in make_batches(views=1).epoch(0):
        assert not batch.views.any()
        assert not (batch.targets == RIGHT).any()


def test_long_captions_are_cut_without_an_end() -> None:
    inputs, targets = pad_captions([[[A, DOG, LEFT], [A, DOG], [DOG]]], most=2)
    assert targets.tolist() == [[[A, DOG, PAD], [A, DOG, END], [DOG, END, PAD]]]
    assert inputs.tolist() == [[[START, A, PAD], [START, A, DOG], [START, DOG, PAD]]]
    for batch in make_batches(max_words=1).epoch(0):
        assert batch.targets[:, 0, 0].tolist() == [A] * len(batch.images)
        assert not batch.targets[:, 0, 1:].any(), "every first caption has three words"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_parts_of_a_batch_make_up_the_batch(count: int) -> None:
    for batch in make_batches(count=7, size=4).epoch(0):
        parts = batch.split(count)
        assert len(parts) == count
        assert np.concatenate([part.images for part in parts]).tolist() == batch.images.tolist()
        assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
        assert torch.equal(torch.cat([part.inputs for part in parts]), batch.inputs)
        assert np.concatenate([part.seeds for part in parts]).tolist() == batch.seeds.tolist()
        assert all(part.whole == batch.whole for part in parts)
        assert batch.whole == Size(
            len(batch.images), int((batch.targets != PAD).any(dim=2).sum()), int((batch.targets != PAD).sum())
        )
