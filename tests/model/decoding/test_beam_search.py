"""Beam search against searches written as plainly as can be."""

import itertools

import pytest
import torch
from support.plain import (
    LENGTH_POWER,
    SEEDS,
    SPECIAL,
    assert_scored_right,
    plain_beam_search,
    random_decoder,
    random_memory,
    says_again,
    score,
)

from model.decoding.beam_search import beam_search
from model.text.vocabulary import END, PAD, START, UNKNOWN


@pytest.mark.parametrize("seed", SEEDS)
def test_enough_beams_find_every_sentence_in_the_order_of_the_ranking(seed: int) -> None:
    decoder, max_words = random_decoder(seed, words=3), 4
    encoded = random_memory(decoder)
    words = range(SPECIAL, SPECIAL + 3)
    sentences = [list(s) for length in range(1, max_words + 1) for s in itertools.product(words, repeat=length)]
    ranked = sorted(sentences, key=lambda tokens: -score(decoder, encoded, tokens, max_words).rank)
    (found,) = beam_search(decoder, encoded, beams=len(sentences), max_words=max_words, length_power=LENGTH_POWER)
    assert [hypothesis.tokens for hypothesis in found[:10]] == ranked[:10]
    assert sorted(hypothesis.tokens for hypothesis in found) == sorted(sentences)


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_few_beams_keep_what_a_plain_search_keeps(seed: int, beams: int) -> None:
    decoder = random_decoder(seed, words=12)
    encoded = random_memory(decoder)
    (found,) = beam_search(decoder, encoded, beams=beams, max_words=7)
    assert [hypothesis.tokens for hypothesis in found] == plain_beam_search(decoder, encoded, beams, max_words=7)


@pytest.mark.parametrize("repeatable", [1, 2])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_more_words_in_a_row_are_said_twice_than_may_be(seed: int, beams: int, repeatable: int) -> None:
    decoder = random_decoder(seed, words=2)  # with two words to say, everything is soon said again
    decoder.output_bias.data[END] = -3.0
    encoded = random_memory(decoder, images=2)
    free = beam_search(decoder, encoded, beams=beams, max_words=12)
    found = beam_search(decoder, encoded, beams=beams, max_words=12, repeatable=repeatable)
    for image, hypotheses in enumerate(found):
        alone = encoded.select([image])
        tokens = [hypothesis.tokens for hypothesis in hypotheses]
        assert tokens == plain_beam_search(decoder, alone, beams, 12, repeatable)
        assert tokens != [hypothesis.tokens for hypothesis in free[image]], "nothing was forbidden: this shows nothing"
        for hypothesis in hypotheses:
            length = len(hypothesis.tokens)
            assert not any(says_again(hypothesis.tokens[:end], repeatable + 1) for end in range(length + 1))
            assert_scored_right(decoder, alone, hypothesis, max_words=12)


@pytest.mark.parametrize("seed", SEEDS)
@torch.inference_mode()
def test_one_beam_is_greedy_search(seed: int) -> None:
    decoder, max_words = random_decoder(seed, words=12), 9
    encoded = random_memory(decoder)
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
    ((found,),) = beam_search(decoder, encoded, beams=1, max_words=max_words)
    assert found.tokens == [token for token in tokens if token not in (START, END)]


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_log_probabilities_and_attention_are_those_of_the_sentence_itself(seed: int, beams: int) -> None:
    decoder, max_words = random_decoder(seed, words=12), 8
    encoded = random_memory(decoder, images=3)
    for image, hypotheses in enumerate(beam_search(decoder, encoded, beams=beams, max_words=max_words)):
        assert len(hypotheses) == beams
        for hypothesis in hypotheses:
            assert hypothesis.attention.shape == (len(hypothesis.tokens), 6)
            assert hypothesis.attention.dtype == torch.float32
            assert_scored_right(decoder, encoded.select([image]), hypothesis, max_words)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_few_are_distinct_and_sorted_by_the_ranking(seed: int) -> None:
    decoder, max_words = random_decoder(seed, words=12), 8
    encoded = random_memory(decoder)
    (found,) = beam_search(decoder, encoded, beams=5, max_words=max_words)
    assert len({tuple(hypothesis.tokens) for hypothesis in found}) == 5
    ranks = [score(decoder, encoded, hypothesis.tokens, max_words).rank for hypothesis in found]
    assert ranks == sorted(ranks, reverse=True)


def test_a_length_power_of_zero_ranks_by_log_probability_alone() -> None:
    decoder = random_decoder(0, words=12)
    (found,) = beam_search(decoder, random_memory(decoder), beams=5, max_words=8, length_power=0.0)
    totals = [hypothesis.logprob for hypothesis in found]
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_gets_what_each_image_gets_alone(beams: int) -> None:
    decoder = random_decoder(1, words=12)
    encoded = random_memory(decoder, images=5)
    together = beam_search(decoder, encoded, beams=beams, max_words=8)
    assert len({tuple(best.tokens) for best, *_ in together}) > 1, "the same sentence for all would prove little"
    for image, hypotheses in enumerate(together):
        (alone,) = beam_search(decoder, encoded.select([image]), beams=beams, max_words=8)
        assert [hypothesis.tokens for hypothesis in alone] == [hypothesis.tokens for hypothesis in hypotheses]
        for one, other in zip(alone, hypotheses, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
            torch.testing.assert_close(one.attention, other.attention)


def test_a_sentence_that_never_ends_is_cut_at_the_limit() -> None:
    decoder, max_words = random_decoder(2, words=5), 6
    with torch.no_grad():
        decoder.output_bias[END] = -torch.inf
    encoded = random_memory(decoder)
    (found,) = beam_search(decoder, encoded, beams=3, max_words=max_words)
    assert [len(hypothesis.tokens) for hypothesis in found] == [max_words] * 3
    for hypothesis in found:
        assert hypothesis.logprob == pytest.approx(sum(hypothesis.logprobs), abs=1e-4)
        assert_scored_right(decoder, encoded, hypothesis, max_words)


@pytest.mark.parametrize("beams", [1, 3])
def test_padding_start_and_unknown_are_never_said_however_likely(beams: int) -> None:
    decoder = random_decoder(3, words=12)
    with torch.no_grad():
        decoder.output_bias[[PAD, START, UNKNOWN]] = 50.0
    for hypotheses in beam_search(decoder, random_memory(decoder, images=4), beams=beams, max_words=8):
        assert len(hypotheses) == beams
        assert all(token >= SPECIAL for hypothesis in hypotheses for token in hypothesis.tokens)


@pytest.mark.parametrize("beams", [1, 3])
def test_no_sentence_is_empty_however_likely_the_end(beams: int) -> None:
    decoder = random_decoder(4, words=12)
    with torch.no_grad():
        decoder.output_bias[END] = 50.0
    encoded = random_memory(decoder)
    (found,) = beam_search(decoder, encoded, beams=beams, max_words=8)
    assert [len(hypothesis.tokens) for hypothesis in found] == [1] * beams
    for hypothesis in found:
        assert_scored_right(decoder, encoded, hypothesis, max_words=8)


def test_a_vocabulary_with_fewer_sentences_than_beams_gives_them_all_once() -> None:
    decoder = random_decoder(5, words=1)
    encoded = random_memory(decoder, images=2)
    for image, hypotheses in enumerate(beam_search(decoder, encoded, beams=10, max_words=3)):
        assert sorted(hypothesis.tokens for hypothesis in hypotheses) == [[SPECIAL], [SPECIAL] * 2, [SPECIAL] * 3]
        for hypothesis in hypotheses:
            assert_scored_right(decoder, encoded.select([image]), hypothesis, max_words=3)


def test_a_limit_of_one_word_gives_the_likeliest_words() -> None:
    decoder = random_decoder(0, words=6)
    encoded = random_memory(decoder)
    (found,) = beam_search(decoder, encoded, beams=3, max_words=1)
    words = sorted(range(SPECIAL, SPECIAL + 6), key=lambda token: -score(decoder, encoded, [token], 1).logprob)
    assert [hypothesis.tokens for hypothesis in found] == [[token] for token in words[:3]]
