"""Beam search equals plain searches of one sentence at a time."""

import itertools

import pytest
import torch
from support.plain import (
    LENGTH_POWER,
    SEEDS,
    SPECIAL,
    assert_scores_match,
    plain_beam_search,
    random_decoder,
    random_encoding,
    repeats_run,
    score,
)

from model.decoding.beam_search import beam_search
from model.text.vocabulary import END, PAD, START, UNKNOWN


@pytest.mark.parametrize("seed", SEEDS)
def test_exhaustive_beams_find_every_sentence_in_ranking_order(seed: int) -> None:
    decoder, max_words = random_decoder(seed, words=3), 4
    encoded = random_encoding(decoder)
    words = range(SPECIAL, SPECIAL + 3)
    sentences = [list(s) for length in range(1, max_words + 1) for s in itertools.product(words, repeat=length)]
    ranked = sorted(sentences, key=lambda tokens: -score(decoder, encoded, tokens, max_words).rank)
    (found,) = beam_search(decoder, encoded, beam_size=len(sentences), max_words=max_words, length_power=LENGTH_POWER)
    assert [hypothesis.tokens for hypothesis in found[:10]] == ranked[:10]
    assert sorted(hypothesis.tokens for hypothesis in found) == sorted(sentences)


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_beams_equal_a_plain_search(seed: int, beams: int) -> None:
    decoder = random_decoder(seed, words=12)
    encoded = random_encoding(decoder)
    (found,) = beam_search(decoder, encoded, beam_size=beams, max_words=7)
    assert [hypothesis.tokens for hypothesis in found] == plain_beam_search(decoder, encoded, beams, max_words=7)


@pytest.mark.parametrize("repeatable", [1, 2])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_repeated_runs_are_no_longer_than_repeatable(seed: int, beams: int, repeatable: int) -> None:
    decoder = random_decoder(seed, words=2)  # with two words, repetitions are frequent
    decoder.output_bias.data[END] = -3.0
    encoded = random_encoding(decoder, images=2)
    free = beam_search(decoder, encoded, beam_size=beams, max_words=12)
    found = beam_search(decoder, encoded, beam_size=beams, max_words=12, repeatable=repeatable)
    for image, hypotheses in enumerate(found):
        alone = encoded.select([image])
        tokens = [hypothesis.tokens for hypothesis in hypotheses]
        assert tokens == plain_beam_search(decoder, alone, beams, 12, repeatable)
        assert tokens != [hypothesis.tokens for hypothesis in free[image]], "nothing was forbidden"
        for hypothesis in hypotheses:
            length = len(hypothesis.tokens)
            assert not any(repeats_run(hypothesis.tokens[:end], repeatable + 1) for end in range(length + 1))
            assert_scores_match(decoder, alone, hypothesis, max_words=12)


@pytest.mark.parametrize("seed", SEEDS)
@torch.inference_mode()
def test_one_beam_is_greedy_search(seed: int) -> None:
    decoder, max_words = random_decoder(seed, words=12), 9
    encoded = random_encoding(decoder)
    tokens = [START]
    state = decoder.start(encoded, 1)
    for step in range(max_words):
        logits, state, _ = decoder.step(torch.tensor([[tokens[-1]]]), state, encoded)
        allowed = logits[0, 0].clone()
        allowed[[PAD, START, UNKNOWN]] = -torch.inf
        if step == 0:
            allowed[END] = -torch.inf
        tokens.append(int(allowed.argmax()))
        if tokens[-1] == END:
            break
    ((found,),) = beam_search(decoder, encoded, beam_size=1, max_words=max_words)
    assert found.tokens == [token for token in tokens if token not in (START, END)]


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_log_probabilities_and_attention_equal_teacher_forcing(seed: int, beams: int) -> None:
    decoder, max_words = random_decoder(seed, words=12), 8
    encoded = random_encoding(decoder, images=3)
    for image, hypotheses in enumerate(beam_search(decoder, encoded, beam_size=beams, max_words=max_words)):
        assert len(hypotheses) == beams
        for hypothesis in hypotheses:
            assert hypothesis.attention.shape == (len(hypothesis.tokens), 6)
            assert hypothesis.attention.dtype == torch.float32
            assert_scores_match(decoder, encoded.select([image]), hypothesis, max_words)


@pytest.mark.parametrize("seed", SEEDS)
def test_hypotheses_are_distinct_and_sorted(seed: int) -> None:
    decoder, max_words = random_decoder(seed, words=12), 8
    encoded = random_encoding(decoder)
    (found,) = beam_search(decoder, encoded, beam_size=5, max_words=max_words)
    assert len({tuple(hypothesis.tokens) for hypothesis in found}) == 5
    ranks = [score(decoder, encoded, hypothesis.tokens, max_words).rank for hypothesis in found]
    assert ranks == sorted(ranks, reverse=True)


def test_a_length_power_of_zero_ranks_by_log_probability_alone() -> None:
    decoder = random_decoder(0, words=12)
    (found,) = beam_search(decoder, random_encoding(decoder), beam_size=5, max_words=8, length_power=0.0)
    totals = [hypothesis.logprob for hypothesis in found]
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_gets_what_each_image_gets_alone(beams: int) -> None:
    decoder = random_decoder(1, words=12)
    encoded = random_encoding(decoder, images=5)
    together = beam_search(decoder, encoded, beam_size=beams, max_words=8)
    assert len({tuple(best.tokens) for best, *_ in together}) > 1, "all sentences are equal"
    for image, hypotheses in enumerate(together):
        (alone,) = beam_search(decoder, encoded.select([image]), beam_size=beams, max_words=8)
        assert [hypothesis.tokens for hypothesis in alone] == [hypothesis.tokens for hypothesis in hypotheses]
        for one, other in zip(alone, hypotheses, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
            torch.testing.assert_close(one.attention, other.attention)


def test_a_sentence_that_never_ends_is_cut_at_the_limit() -> None:
    decoder, max_words = random_decoder(2, words=5), 6
    with torch.no_grad():
        decoder.output_bias[END] = -torch.inf
    encoded = random_encoding(decoder)
    (found,) = beam_search(decoder, encoded, beam_size=3, max_words=max_words)
    assert [len(hypothesis.tokens) for hypothesis in found] == [max_words] * 3
    for hypothesis in found:
        assert hypothesis.logprob == pytest.approx(sum(hypothesis.logprobs), abs=1e-4)
        assert_scores_match(decoder, encoded, hypothesis, max_words)


@pytest.mark.parametrize("beams", [1, 3])
def test_special_tokens_are_never_generated(beams: int) -> None:
    decoder = random_decoder(3, words=12)
    with torch.no_grad():
        decoder.output_bias[[PAD, START, UNKNOWN]] = 50.0
    for hypotheses in beam_search(decoder, random_encoding(decoder, images=4), beam_size=beams, max_words=8):
        assert len(hypotheses) == beams
        assert all(token >= SPECIAL for hypothesis in hypotheses for token in hypothesis.tokens)


@pytest.mark.parametrize("beams", [1, 3])
def test_no_sentence_is_empty(beams: int) -> None:
    decoder = random_decoder(4, words=12)
    with torch.no_grad():
        decoder.output_bias[END] = 50.0
    encoded = random_encoding(decoder)
    (found,) = beam_search(decoder, encoded, beam_size=beams, max_words=8)
    assert [len(hypothesis.tokens) for hypothesis in found] == [1] * beams
    for hypothesis in found:
        assert_scores_match(decoder, encoded, hypothesis, max_words=8)


def test_surplus_beams_give_every_sentence_once() -> None:
    decoder = random_decoder(5, words=1)
    encoded = random_encoding(decoder, images=2)
    for image, hypotheses in enumerate(beam_search(decoder, encoded, beam_size=10, max_words=3)):
        assert sorted(hypothesis.tokens for hypothesis in hypotheses) == [[SPECIAL], [SPECIAL] * 2, [SPECIAL] * 3]
        for hypothesis in hypotheses:
            assert_scores_match(decoder, encoded.select([image]), hypothesis, max_words=3)


def test_a_limit_of_one_word_gives_the_most_probable_words() -> None:
    decoder = random_decoder(0, words=6)
    encoded = random_encoding(decoder)
    (found,) = beam_search(decoder, encoded, beam_size=3, max_words=1)
    words = sorted(range(SPECIAL, SPECIAL + 6), key=lambda token: -score(decoder, encoded, [token], 1).logprob)
    assert [hypothesis.tokens for hypothesis in found] == [[token] for token in words[:3]]
