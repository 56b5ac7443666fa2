"""Diversity of captions, bad endings, and the bootstrap interval of a mean score."""

import numpy as np
import pytest

from model.evaluation.scores import bootstrap_interval, diversity


def test_diversity_equals_hand_computed_values() -> None:
    found = diversity(["a dog runs", "A dog runs .", "a man in a"])
    assert found["distinct_captions"] == pytest.approx(2 / 3)
    assert found["words_used"] == 5  # a dog runs man in
    assert found["distinct_1"] == pytest.approx(5 / 10)
    assert found["distinct_2"] == pytest.approx(5 / 7)  # a-dog dog-runs a-man man-in in-a
    assert found["bad_endings"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("caption", "bad"),
    [
        ("a dog with a", 1),
        ("a man stands in front of", 1),
        ("a dog and", 1),
        ("a girl in her", 1),
        ("a dog runs outside", 0),
        ("a man looks around .", 0),
        ("a dog catches it", 0),
        ("", 1),
    ],
)
def test_a_caption_that_needs_another_word_ends_badly(caption: str, bad: int) -> None:
    assert diversity([caption])["bad_endings"] == bad


def test_the_interval_contains_the_mean_and_narrows_with_more_images() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.exponential(size=50), rng.exponential(size=5000)
    (low, high), (lower, higher) = bootstrap_interval(few), bootstrap_interval(many)
    assert low < few.mean() < high
    assert lower < many.mean() < higher
    # The normal approximation is close enough for a mean of 5,000.
    assert higher - lower == pytest.approx(2 * 1.96 * many.std() / 5000**0.5, rel=0.1)
    assert high - low > higher - lower
    assert bootstrap_interval(few) == (low, high)
    assert bootstrap_interval(np.array([0.5])) == (0.5, 0.5)
