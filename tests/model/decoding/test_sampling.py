"""Sampling follows the given random numbers and the right distribution."""

import math

import pytest
import torch
from support.plain import SEEDS, SPECIAL, assert_scores_match, next_words, random_decoder, random_encoding, repeats_run

from model.decoding.beam_search import beam_search
from model.decoding.sampling import draw, sample, uniform_numbers
from model.text.vocabulary import END, PAD, START, UNKNOWN

MANY = 4000
# Evenly spaced numbers draw each token in proportion to its probability, up to one at either end.
EVEN_NUMBERS = (torch.arange(MANY) + 0.5) / MANY


def counts_of(logprobs: list[float], temperature: float, top_k: int | None, top_p: float | None) -> list[int]:
    """Return how often each token is drawn by evenly spaced numbers."""
    row = torch.tensor(logprobs).expand(1, MANY, -1).contiguous()
    return torch.bincount(draw(row, EVEN_NUMBERS[None], temperature, top_k, top_p)[0], minlength=len(logprobs)).tolist()


def with_temperature(probabilities: list[float], temperature: float) -> list[float]:
    """Return the distribution at another temperature: p ** (1 / T), normalised."""
    raised = [p ** (1 / temperature) for p in probabilities]
    return [p / sum(raised) for p in raised]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (None, None, [0, 1, 2, 3, 4]),
        (2, None, [1, 3]),
        (99, None, [0, 1, 2, 3, 4]),
        (None, 1.0, [0, 1, 2, 3, 4]),
        (1, 1.0, [1]),
        (None, 1e-9, [1]),
    ],
)
def test_draw_follows_the_expected_distribution(
    temperature: float, top_k: int | None, top_p: float | None, kept: list[int]
) -> None:
    probabilities = [0.1, 0.4, 0.15, 0.3, 0.05]
    expected = with_temperature([p if token in kept else 0.0 for token, p in enumerate(probabilities)], temperature)
    counts = counts_of([math.log(p) for p in probabilities], temperature, top_k, top_p)
    assert counts == [pytest.approx(MANY * p, abs=1.5) for p in expected]
    assert [token for token, count in enumerate(counts) if count] == kept


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "kept"),
    [
        (1.0, None, 0.39, {1}),  # 0.4 is enough
        (1.0, None, 0.41, {1, 3}),  # 0.4 is not
        (1.0, None, 0.84, {1, 2, 3}),  # 0.7 is not, 0.85 is
        (1.0, 3, 0.81, {1, 3}),  # of the three likeliest, 0.7 / 0.85 is enough
        (0.5, None, 0.55, {1}),  # colder, the first alone has 0.56
        (2.0, None, 0.41, {1, 3}),
        (2.0, None, 0.57, {1, 2, 3}),  # hotter, the first two have 0.56
    ],
)
def test_temperature_comes_before_top_k_and_top_k_before_top_p(
    temperature: float, top_k: int | None, top_p: float, kept: set[int]
) -> None:
    counts = counts_of([math.log(p) for p in (0.1, 0.4, 0.15, 0.3, 0.05)], temperature, top_k, top_p)
    assert {token for token, count in enumerate(counts) if count} == kept


@pytest.mark.parametrize("temperature", [1e-300, 1e-20, 1.0, 1e20, 1e300])
@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-24])
def test_forbidden_tokens_are_never_drawn_at_any_temperature(temperature: float, number: float) -> None:
    logprobs = torch.full((1, 1, 3000), -8.0)
    forbidden = [0, 1, 2, 1500, 2999]
    logprobs[0, 0, forbidden] = -torch.inf
    token = int(draw(logprobs, torch.tensor([[number]]), temperature, None, None))
    assert token not in forbidden
    assert token >= 2990 or number < 0.9


def test_extreme_temperatures_are_greedy_and_uniform() -> None:
    logprobs = [math.log(p) for p in (0.2, 0.5, 0.3)]
    assert counts_of(logprobs, 1e-300, None, None) == [0, MANY, 0]
    assert counts_of(logprobs, 1e300, None, None) == [pytest.approx(MANY / 3, abs=3)] * 3


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0])
def test_first_words_follow_the_decoder_s_distribution(temperature: float) -> None:
    decoder = random_decoder(3, words=8)
    encoded = random_encoding(decoder)
    logprobs = next_words(decoder, encoded, [], None)
    expected = with_temperature([math.exp(logprob) for logprob in logprobs.values()], temperature)
    seeds = range(200)
    counts: dict[int, int] = dict.fromkeys(logprobs, 0)
    for hypotheses in sample(
        decoder,
        encoded.select([0] * len(seeds)),
        uniform=uniform_numbers(seeds, sentences=20, words=1),
        temperature=temperature,
    ):
        for hypothesis in hypotheses:
            counts[hypothesis.tokens[0]] += 1
    drawn = 20 * len(seeds)
    assert sum(counts.values()) == drawn
    chi_square = sum((count - drawn * p) ** 2 / (drawn * p) for count, p in zip(counts.values(), expected, strict=True))
    assert chi_square < 24.3  # the 0.999 quantile for 7 degrees of freedom; the seeds are fixed


@pytest.mark.parametrize("repeatable", [None, 1])
@pytest.mark.parametrize("only_the_likeliest", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}])
@pytest.mark.parametrize("seed", SEEDS)
def test_sampling_only_the_most_probable_word_equals_greedy_search(
    seed: int, only_the_likeliest: dict[str, float], repeatable: int | None
) -> None:
    decoder = random_decoder(seed, words=12)
    encoded = random_encoding(decoder, images=3)
    drawn = sample(
        decoder,
        encoded,
        uniform=uniform_numbers([1, 2, 3], sentences=2, words=9),
        repeatable=repeatable,
        **only_the_likeliest,  # type: ignore[arg-type]
    )
    greedy = beam_search(decoder, encoded, beam_size=1, max_words=9, repeatable=repeatable)
    for sentences, (expected,) in zip(drawn, greedy, strict=True):
        for sentence in sentences:
            assert sentence.tokens == expected.tokens
            assert sentence.logprob == pytest.approx(expected.logprob, abs=1e-4)


@pytest.mark.parametrize("seed", [0, 2, 3, 4])
def test_log_probabilities_and_attention_are_those_of_the_unrestricted_decoder(seed: int) -> None:
    decoder, max_words = random_decoder(seed, words=12, end=1.0), 8
    encoded = random_encoding(decoder, images=3)
    drawn = sample(
        decoder,
        encoded,
        uniform=uniform_numbers([4, 5, 6], sentences=4, words=max_words),
        temperature=1.5,
        top_k=6,
        top_p=0.9,
        repeatable=1,
    )
    sentences = {tuple(sentence.tokens) for sentences in drawn for sentence in sentences}
    assert len(sentences) > 6
    assert len({len(sentence) for sentence in sentences}) > 1
    for image, hypotheses in enumerate(drawn):
        assert len(hypotheses) == 4
        for hypothesis in hypotheses:
            assert_scores_match(decoder, encoded.select([image]), hypothesis, max_words)


def test_special_tokens_are_never_sampled_and_no_sentence_is_empty() -> None:
    decoder = random_decoder(3, words=12)
    with torch.no_grad():
        decoder.output_bias[[PAD, START, UNKNOWN, END]] = 20.0
    drawn = sample(
        decoder,
        random_encoding(decoder, images=4),
        uniform=uniform_numbers(range(4), sentences=20, words=6),
        temperature=50.0,
    )
    for hypotheses in drawn:
        for hypothesis in hypotheses:
            assert hypothesis.tokens
            assert min(hypothesis.tokens) >= SPECIAL


@pytest.mark.parametrize("repeatable", [1, 2])
def test_repeated_runs_are_no_longer_than_repeatable(repeatable: int) -> None:
    decoder = random_decoder(0, words=2, end=-3.0)
    encoded = random_encoding(decoder, images=2)
    uniform = uniform_numbers([1, 2], sentences=10, words=12)
    free = sample(decoder, encoded, uniform=uniform)
    restricted = sample(decoder, encoded, uniform=uniform, repeatable=repeatable)

    def repeats(tokens: list[int]) -> bool:
        return any(repeats_run(tokens[:end], repeatable + 1) for end in range(len(tokens) + 1))

    assert any(repeats(hypothesis.tokens) for hypotheses in free for hypothesis in hypotheses)
    assert not any(repeats(hypothesis.tokens) for hypotheses in restricted for hypothesis in hypotheses)


def test_a_sentence_that_never_ends_is_cut_at_the_limit() -> None:
    decoder = random_decoder(2, words=5, end=-torch.inf)
    (drawn,) = sample(decoder, random_encoding(decoder), uniform=uniform_numbers([0], sentences=3, words=6))
    for hypothesis in drawn:
        assert len(hypothesis.tokens) == 6
        assert hypothesis.logprob == pytest.approx(sum(hypothesis.logprobs), abs=1e-4)


def test_random_numbers_depend_on_the_seed_alone() -> None:
    together = uniform_numbers([7, 8, 7], sentences=3, words=5)
    assert torch.equal(together[0], together[2])
    assert not torch.equal(together[0], together[1])
    assert torch.equal(uniform_numbers([8], sentences=9, words=5)[0, :3], together[1])
    fresh = uniform_numbers([None, None], sentences=3, words=5)
    assert not torch.equal(fresh[0], fresh[1])
