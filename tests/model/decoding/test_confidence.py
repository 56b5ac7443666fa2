"""The confidence of captions and its calibration."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from model.decoding.caption import Caption, Word, WordMap
from model.decoding.confidence import ConfidenceConfig, confidence, features
from model.evaluation.calibration import (
    Bin,
    as_good_as_people,
    calibration_error,
    coverage_table,
    fit,
    naive_confidence,
    reliability,
    threshold_report,
)
from model.evaluation.report import draw_reliability


def caption(*logprobs: float, end: float = 0.0) -> Caption:
    words = [Word("dog", logprob, WordMap(1, 1, [1.0]), WordMap(1, 1, [1.0])) for logprob in logprobs]
    return Caption("dog " * len(words), sum(logprobs) + end, words)


CONFIG = ConfidenceConfig(bias=1.0, mean_logprob=2.0, lowest_logprob=0.5, words=-0.25, threshold=0.4)


def test_confidence_equals_a_hand_computed_value() -> None:
    two_words = caption(-1.0, -2.0, end=-3.0)
    assert features(two_words) == (-2.0, -2.0, 2.0)
    assert confidence(two_words, CONFIG) == pytest.approx(1 / (1 + math.exp(4.5)))
    assert confidence(two_words, CONFIG) < CONFIG.threshold
    assert confidence(caption(-0.1), CONFIG) >= CONFIG.threshold
    assert naive_confidence(two_words) == pytest.approx(math.exp(-2))


def test_confidence_stays_a_probability_for_extreme_sentences() -> None:
    assert confidence(caption(-1e4, -1e4), CONFIG) == 0
    assert confidence(caption(-1e4), CONFIG.model_copy(update={"mean_logprob": -2.0, "lowest_logprob": 0.0})) == 1


def test_coefficients_must_be_finite_and_survive_json() -> None:
    assert ConfidenceConfig.model_validate_json(CONFIG.model_dump_json()) == CONFIG
    for wrong in ({"bias": math.nan}, {"threshold": 1.5}, {"more": 1}):
        with pytest.raises(ValidationError):
            ConfidenceConfig.model_validate(CONFIG.model_dump() | wrong)


def test_calibration_error_equals_a_hand_computed_value() -> None:
    confidences = np.array([0.95, 0.95, 0.95, 0.95, 0.15, 1.0])
    curve = reliability(confidences, np.array([True, True, True, False, False, True]), bins=10)
    assert curve == [Bin(1, pytest.approx(0.15), 0.0), Bin(5, pytest.approx(0.96), pytest.approx(0.8))]
    assert calibration_error(curve) == pytest.approx((0.15 + 5 * 0.16) / 6)


def test_fit_recovers_known_odds() -> None:
    rng = np.random.default_rng(0)
    captions = [caption(*rng.uniform(-4, 0, rng.integers(4, 12)), end=-0.1) for _ in range(3000)]
    true = np.array([1 / (1 + math.exp(-(3 + 2 * features(sample)[0]))) for sample in captions])
    right = rng.random(len(captions)) < true
    config = fit(captions, right)
    fitted = np.array([confidence(sample, config) for sample in captions])
    assert np.abs(fitted - true).mean() < 0.03
    naive = np.array([naive_confidence(sample) for sample in captions])
    assert calibration_error(reliability(fitted, right)) < 0.03 < calibration_error(reliability(naive, right))
    assert (fitted < config.threshold).mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("all_right", [True, False])
def test_fit_works_if_all_captions_are_right_or_all_wrong(all_right: bool) -> None:
    config = fit([caption(-1.0)] * 10, np.array([all_right] * 10))
    assert abs(confidence(caption(-1.0), config) - all_right) < 0.1


def test_coverage_keeps_the_most_confident_captions() -> None:
    confidences, right = np.array([0.1, 0.9, 0.5, 0.8, 0.2]), np.array([False, True, False, True, True])
    table = coverage_table(confidences, right, ciders=np.array([0.0, 3.0, 0.0, 1.0, 1.0]))
    assert table["0.4"] == {"right": 1.0, "cider": 2.0}
    assert table["1.0"] == {"right": pytest.approx(0.6), "cider": 1.0}
    rows = [table[share]["cider"] for share in ("1.0", "0.8", "0.6", "0.4", "0.2")]
    assert all(wider <= narrower for wider, narrower in pairwise(rows))
    report = threshold_report(confidences, right, np.arange(5.0), 0.5)
    assert report["coverage"] == pytest.approx(0.6)
    assert (report["right_confident"], report["right_not_confident"]) == (pytest.approx(2 / 3), 0.5)
    assert "right_not_confident" not in threshold_report(confidences, right, np.arange(5.0), 0.0)


def test_a_caption_is_right_if_it_scores_like_the_median_person() -> None:
    references = {
        "1": ["a dog runs on grass", "a brown dog runs on grass", "the dog runs on green grass", "some animal", "rex"],
        "2": ["two men sail a boat", "men sail a small boat", "two people sail a boat", "water", "a holiday"],
    }
    good = {"1": "a dog runs on grass", "2": "two men sail a boat"}
    assert as_good_as_people(good, references).tolist() == [True, True]
    assert as_good_as_people(good | {"2": "a dog runs on grass"}, references).tolist() == [True, False]
    with pytest.raises(ValueError, match="two references"):
        as_good_as_people({"1": "a dog"}, {"1": ["a dog"]})


def test_equal_numbers_give_an_equal_figure(tmp_path: Path) -> None:
    curve = [{"captions": 3, "confidence": 0.2, "right": 0.1}, {"captions": 1, "confidence": 0.8, "right": 0.9}]
    for name in ("one.svg", "two.svg"):
        draw_reliability({"val, after": curve}, tmp_path / "docs" / name)
    one, two = ((tmp_path / "docs" / name).read_text() for name in ("one.svg", "two.svg"))
    assert one == two
    assert "<svg" in one
