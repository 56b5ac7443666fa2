"""Scoring of given sentences."""

import pytest
from support.plain import random_decoder, random_encoding, random_vocabulary, score

from model.decoding.caption import Caption
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions, Strategy
from model.decoding.teacher_forcing import score as score_sentences
from model.network.decoder import Decoder
from model.text.vocabulary import UNKNOWN

WORDS = 12
VOCABULARY = random_vocabulary(WORDS)
SENTENCES = ["w3", "w1 w2 w3 w4 w5 w6", "w0 zeppelin w0", "w5 w5"]


@pytest.fixture
def decoder() -> Decoder:
    return random_decoder(3, WORDS, end=1.0)


def assert_captions_match(one: Caption, other: Caption) -> None:
    assert one.text == other.text
    assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    for word, same in zip(one.words, other.words, strict=True):
        assert (word.text, word.in_vocabulary) == (same.text, same.in_vocabulary)
        assert word.logprob == pytest.approx(same.logprob, abs=1e-4)
        assert word.attention.weights == pytest.approx(same.attention.weights, abs=1e-5)


def test_batched_scores_equal_teacher_forcing_of_each_sentence(decoder: Decoder) -> None:
    encoded = random_encoding(decoder, len(SENTENCES))
    together = score_sentences(decoder, VOCABULARY, encoded, SENTENCES)
    for image, (sentence, caption) in enumerate(zip(SENTENCES, together, strict=True)):
        alone = encoded.select([image])
        expected = score(decoder, alone, VOCABULARY.encode(sentence), max_words=99)
        assert caption.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert [word.logprob for word in caption.words] == pytest.approx(expected.logprobs, abs=1e-4)
        for word, weights in zip(caption.words, expected.attention, strict=True):
            assert (word.attention.rows, word.attention.cols) == (2, 3)
            assert word.attention.weights == pytest.approx(weights.tolist(), abs=1e-5)
        assert_captions_match(caption, score_sentences(decoder, VOCABULARY, alone, [sentence])[0])


def test_unknown_words_are_marked_and_keep_their_spelling(decoder: Decoder) -> None:
    (caption,) = score_sentences(decoder, VOCABULARY, random_encoding(decoder), ["W0: a Zeppelin’s W1!"])
    assert caption.text == "w0 a zeppelin's w1"
    assert [(word.text, word.in_vocabulary) for word in caption.words] == [
        ("w0", True),
        ("a", False),
        ("zeppelin's", False),
        ("w1", True),
    ]


def test_an_unknown_word_scores_as_the_unknown_token(decoder: Decoder) -> None:
    encoded = random_encoding(decoder)
    (caption,) = score_sentences(decoder, VOCABULARY, encoded, ["zeppelin"])
    assert caption.words[0].logprob == pytest.approx(score(decoder, encoded, [UNKNOWN], 9).logprobs[0], abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        DecodingOptions(strategy=Strategy.GREEDY),
        DecodingOptions(beam_size=4, num_captions=4),
        DecodingOptions(strategy=Strategy.SAMPLE, num_captions=3, temperature=1.4),
        DecodingOptions(strategy=Strategy.DIVERSE, beam_size=4, num_captions=2, diversity=3.0),
        DecodingOptions(beam_size=3, num_captions=3, prefix="w2 airship"),
    ],
    ids=lambda options: f"{options.strategy} {options.prefix}".strip(),
)
def test_generated_captions_score_as_reported(decoder: Decoder, options: DecodingOptions) -> None:
    encoded = random_encoding(decoder, 3)
    for image, captions in enumerate(generate(decoder, VOCABULARY, encoded, options, seeds=[1, 2, 3], listener=None)):
        assert captions
        for caption in captions:
            assert len(caption.words) < 20, "cut at the limit, so the score lacks the decision to end"
            again = score_sentences(decoder, VOCABULARY, encoded.select([image]), [caption.text])
            assert_captions_match(again[0], caption)


@pytest.mark.parametrize("sentence", ["", "  ", "?!"])
def test_a_sentence_without_any_word_is_refused(decoder: Decoder, sentence: str) -> None:
    with pytest.raises(ValueError, match="at least one word"):
        score_sentences(decoder, VOCABULARY, random_encoding(decoder, 2), ["w1", sentence])


def test_a_sentence_per_image_is_required(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="1 for 2"):
        score_sentences(decoder, VOCABULARY, random_encoding(decoder, 2), ["w1"])
    assert score_sentences(decoder, VOCABULARY, random_encoding(decoder, 2).select([]), []) == []
