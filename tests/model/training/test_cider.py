"""CIDEr-D over integer tokens, compared with pycocoevalcap, and the reward that uses it."""

import random

import pytest
from pycocoevalcap.cider.cider import Cider

from model.text.vocabulary import Vocabulary
from model.training.cider import CiderD
from model.training.dataset import Sample
from model.training.self_critical import Reward

Caption = list[int]


def random_captions(chance: random.Random, count: int, lengths: tuple[int, int]) -> list[Caption]:
    # The tokens are few, so that longer n-grams are shared and repeated, too.
    return [[chance.choice((0, 0, 1, 2, 3, 4, 11)) for _ in range(chance.randint(*lengths))] for _ in range(count)]


def spelt(caption: Caption) -> str:
    return " ".join(map(str, caption))


@pytest.mark.parametrize("lengths", [(0, 2), (1, 6), (5, 25)])
def test_cider_d_equals_pycocoevalcap(lengths: tuple[int, int]) -> None:
    chance = random.Random(1)
    references = [random_captions(chance, chance.randint(1, 5), lengths) for _ in range(60)]
    captions = random_captions(chance, len(references), lengths)
    captions[0], captions[1] = references[0][0], []
    captions[2] = [9, 9, 9, 9]  # n-grams that occur nowhere else
    _, expected = Cider().compute_score(
        {i: list(map(spelt, image)) for i, image in enumerate(references)},
        {i: [spelt(caption)] for i, caption in enumerate(captions)},
    )
    cider = CiderD(references, token_count=12)
    found = [cider.score(caption, cider.prepare(image)) for caption, image in zip(captions, references, strict=True)]
    assert found == pytest.approx(expected.tolist(), abs=1e-6)
    assert max(found) > 1


VOCABULARY = Vocabulary(["a", "dog", "with", "runs", "left", "right"])
SAMPLES = [
    Sample("1.jpg", b"", ["A dog runs .", "a Dog runs left with a zebra"]),
    Sample("2.jpg", b"", ["a giraffe with a zebra"]),
    Sample("3.jpg", b"", ["right", "left"]),
]


def test_a_mirrored_view_rewards_mirrored_captions() -> None:
    reward = Reward(SAMPLES, VOCABULARY, count_end=True)
    words = {side: VOCABULARY.encode(f"a dog runs {side} with a") for side in ("left", "right")}
    worth = {(side, view): reward(0, view, words[side], ended=True) for side in words for view in range(4)}
    assert worth["left", 0] == worth["left", 2] > worth["right", 0]
    assert worth["right", 1] == worth["right", 3] > worth["left", 1]


def test_different_unknown_words_stay_different() -> None:
    # "zebra" is in two images, "giraffe" in one. If both were <unk>, their frequencies would be equal.
    reward = Reward(SAMPLES, VOCABULARY, count_end=False)
    everything = CiderD([[[0, 1, 2], [0, 1, 2, 3, 4, 0, 5]], [[0, 6, 4, 0, 5]], [[7], [3]]], token_count=8)
    expected = everything.score([0, 1, 2], everything.prepare([[0, 1, 2], [0, 1, 2, 3, 4, 0, 5]]))
    assert reward(0, 0, VOCABULARY.encode("a dog runs"), ended=True) == pytest.approx(expected)


def test_a_missing_end_costs_reward_only_if_the_end_counts() -> None:
    whole = VOCABULARY.encode("a dog runs")
    counting, careless = (Reward(SAMPLES, VOCABULARY, count_end=count_end) for count_end in (True, False))
    assert counting(0, 0, whole, ended=True) > counting(0, 0, whole, ended=False)
    assert careless(0, 0, whole, ended=True) == careless(0, 0, whole, ended=False)
    # "with a" at the end.
    cut = VOCABULARY.encode("a dog runs with a")
    assert counting(0, 0, cut, ended=True) / counting(0, 0, whole, ended=True) < careless(
        0, 0, cut, ended=True
    ) / careless(0, 0, whole, ended=True)
