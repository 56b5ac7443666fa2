"""Diverse beam search equals a plain search of one sentence at a time."""

from collections import Counter

import pytest
from support.plain import (
    LENGTH_POWER,
    SEEDS,
    assert_scores_match,
    next_words,
    random_decoder,
    random_encoding,
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
    """Search for one image. The hypotheses of each group are (log-probability, penalty, tokens)."""
    alive: list[list[tuple[float, float, list[int]]]] = [[(0.0, 0.0, [])] for _ in range(groups)]
    for _ in range(max_words):
        chosen_now: Counter[int] = Counter()
        for group, hypotheses in enumerate(alive):
            candidates = []
            for total, penalty, tokens in hypotheses:
                if tokens and tokens[-1] == END:
                    candidates.append((total, penalty, tokens))
                    continue
                for token, logprob in next_words(decoder, encoded, tokens, repeatable).items():
                    cost = 0.0 if token == END else diversity * chosen_now[token]
                    candidates.append((total + logprob, penalty + cost, [*tokens, token]))
            alive[group] = sorted(candidates, key=lambda one: one[0] - one[1], reverse=True)[:size]
            chosen_now.update(tokens[-1] for _, _, tokens in alive[group])

    def norm(tokens: list[int]) -> float:
        return len(tokens) ** LENGTH_POWER

    best = [max(group, key=lambda one: (one[0] - one[1]) / norm(one[2])) for group in alive]
    best.sort(key=lambda one: one[0] / norm(one[2]), reverse=True)
    return [[token for token in tokens if token != END] for _, _, tokens in best]


@pytest.mark.parametrize("diversity", [0.3, 2.0])
@pytest.mark.parametrize(("groups", "size"), [(2, 1), (2, 2), (3, 2), (4, 1)])
@pytest.mark.parametrize("seed", SEEDS)
def test_groups_equal_a_plain_diverse_search(seed: int, groups: int, size: int, diversity: float) -> None:
    decoder = random_decoder(seed, words=12)
    encoded = random_encoding(decoder, images=2)
    found = beam_search(
        decoder, encoded, beam_size=groups * size, groups=groups, diversity=diversity, max_words=7, repeatable=1
    )
    for image, hypotheses in enumerate(found):
        alone = encoded.select([image])
        expected = plain_diverse_search(decoder, alone, groups, size, diversity, max_words=7, repeatable=1)
        assert [hypothesis.tokens for hypothesis in hypotheses] == expected
        for hypothesis in hypotheses:
            assert_scores_match(decoder, alone, hypothesis, max_words=7)


@pytest.mark.parametrize("seed", SEEDS)
def test_diversity_controls_repetition_across_groups(seed: int) -> None:
    decoder = random_decoder(seed, words=12)
    encoded = random_encoding(decoder, images=3)
    same_sentences = beam_search(decoder, encoded, beam_size=4, groups=4, diversity=0.0, max_words=8)
    apart = beam_search(decoder, encoded, beam_size=4, groups=4, diversity=50.0, max_words=8)
    for same, different in zip(same_sentences, apart, strict=True):
        assert len({tuple(hypothesis.tokens) for hypothesis in same}) == 1
        assert len({hypothesis.tokens[0] for hypothesis in different}) == 4
        # Two sentences never have the same word at the same position.
        places = zip(*[hypothesis.tokens + [-1 - n] * 8 for n, hypothesis in enumerate(different)], strict=False)
        assert all(len(set(words)) == 4 for words in places)


def test_a_single_group_is_beam_search() -> None:
    decoder = random_decoder(1, words=12)
    encoded = random_encoding(decoder, images=3)
    for one, other in zip(
        beam_search(decoder, encoded, beam_size=3, groups=1, diversity=2.0, max_words=8),
        beam_search(decoder, encoded, beam_size=3, max_words=8),
        strict=True,
    ):
        assert [(h.tokens, h.logprobs, h.logprob) for h in one] == [(h.tokens, h.logprobs, h.logprob) for h in other]
