"""The checks of decoding options."""

import math

import pytest

from model.decoding.options import MOST_BEAMS, DecodingOptions, Strategy


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"strategy": "luck"}, "strategy must be one of beam, greedy, sample, diverse, consensus"),
        ({"beam_size": 0}, "beam_size"),
        ({"beam_size": MOST_BEAMS + 1}, "beam_size"),
        ({"num_captions": 0}, "num_captions"),
        ({"beam_size": 3, "num_captions": 4}, "num_captions"),
        ({"strategy": Strategy.GREEDY, "num_captions": 2}, "num_captions"),
        ({"strategy": Strategy.SAMPLE, "num_captions": 0}, "num_captions"),
        ({"strategy": Strategy.SAMPLE, "num_captions": MOST_BEAMS + 1}, "num_captions"),
        ({"strategy": Strategy.DIVERSE, "beam_size": 4, "num_captions": 3}, "num_captions must divide beam_size"),
        ({"strategy": Strategy.DIVERSE, "beam_size": 3, "num_captions": 6}, "num_captions"),
        ({"strategy": Strategy.CONSENSUS, "beam_size": 3, "num_captions": 4}, "num_captions"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"max_words": 0}, "max_words"),
        ({"repeatable": 0}, "repeatable"),
        ({"diversity": -0.1}, "diversity"),
        ({"diversity": math.nan}, "diversity"),
    ],
)
def test_invalid_options_are_refused_by_name(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named}"):
        DecodingOptions(**options)  # type: ignore[arg-type]


def test_sampling_is_not_limited_by_beam_size() -> None:
    assert DecodingOptions(strategy=Strategy.SAMPLE, num_captions=MOST_BEAMS, beam_size=1).num_captions == MOST_BEAMS


def test_equal_options_are_equal_and_hashable() -> None:
    jobs = [
        DecodingOptions(prefix="a dog"),
        DecodingOptions(strategy=Strategy("beam"), prefix="a dog"),
        DecodingOptions(prefix="a cat"),
    ]
    assert len(set(jobs)) == 2
