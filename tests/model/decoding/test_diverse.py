"""Diverse beam search against one written as plainly as can be."""

from collections import Counter

import pytest
from support.plain import (
    LENGTH_POWER,
    SEEDS,
    assert_scored_right,
    next_words,
    random_decoder,
    random_memory,
)

from model.decoding.beam_search import beam_search
from model.network.decoder import Decoder
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import END


def plain_diverse_search(
    decoder: Decoder,
    encoded: EncodedImages,
    groups: int,
    size: int,
    diversity: float,
    max_words: int,
    repeatable: int | None = None,
) -> list[list[int]]:
    """One image; the hypotheses of each group are (log-probability, what was paid, tokens)."""
    alive: list[list[tuple[float, float, list[int]]]] = [[(0.0, 0.0, [])] for _ in range(groups)]
    for _ in range(max_words):
        said_now: Counter[int] = Counter()
        for group, hypotheses in enumerate(alive):
            candidates = []
            for total, paid, tokens in hypotheses:
                if tokens and tokens[-1] == END:
                    candidates.append((total, paid, tokens))
                    continue
                for token, logprob in next_words(decoder, encoded, tokens, repeatable).items():
                    price = 0.0 if token == END else diversity * said_now[token]
                    candidates.append((total + logprob, paid + price, [*tokens, token]))
            alive[group] = sorted(candidates, key=lambda one: one[0] - one[1], reverse=True)[:size]
            said_now.update(tokens[-1] for _, _, tokens in alive[group])

    def norm(tokens: list[int]) -> float:
        return len(tokens) ** LENGTH_POWER

    best = [max(group, key=lambda one: (one[0] - one[1]) / norm(one[2])) for group in alive]
    best.sort(key=lambda one: one[0] / norm(one[2]), reverse=True)
    return [[token for token in tokens if token != END] for _, _, tokens in best]


@pytest.mark.parametrize("diversity", [0.3, 2.0])
@pytest.mark.parametrize(("groups", "size"), [(2, 1), (2, 2), (3, 2), (4, 1)])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_group_keeps_what_a_plain_search_keeps(seed: int, groups: int, size: int, diversity: float) -> None:
    decoder = random_decoder(seed, words=12)
    encoded = random_memory(decoder, images=2)
    found = beam_search(
        decoder, encoded, beams=groups * size, groups=groups, diversity=diversity, max_words=7, repeatable=1
    )
    for image, hypotheses in enumerate(found):
        alone = encoded.select([image])
        expected = plain_diverse_search(decoder, alone, groups, size, diversity, max_words=7, repeatable=1)
        assert [hypothesis.tokens for hypothesis in hypotheses] == expected
        for hypothesis in hypotheses:
            assert_scored_right(decoder, alone, hypothesis, max_words=7)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_costs_nothing_is_said_by_every_group_and_what_costs_much_by_one(seed: int) -> None:
    decoder = random_decoder(seed, words=12)
    encoded = random_memory(decoder, images=3)
    alike = beam_search(decoder, encoded, beams=4, groups=4, diversity=0.0, max_words=8)
    apart = beam_search(decoder, encoded, beams=4, groups=4, diversity=50.0, max_words=8)
    for same, different in zip(alike, apart, strict=True):
        assert len({tuple(hypothesis.tokens) for hypothesis in same}) == 1
        assert len({hypothesis.tokens[0] for hypothesis in different}) == 4
        # Wherever two sentences have a word at the same place, it is another word.
        places = zip(*[hypothesis.tokens + [-1 - n] * 8 for n, hypothesis in enumerate(different)], strict=False)
        assert all(len(set(words)) == 4 for words in places)


def test_a_single_group_is_beam_search() -> None:
    decoder = random_decoder(1, words=12)
    encoded = random_memory(decoder, images=3)
    for one, other in zip(
        beam_search(decoder, encoded, beams=3, groups=1, diversity=2.0, max_words=8),
        beam_search(decoder, encoded, beams=3, max_words=8),
        strict=True,
    ):
        assert [(h.tokens, h.logprobs, h.logprob) for h in one] == [(h.tokens, h.logprobs, h.logprob) for h in other]
