"""Streaming of words during decoding, and abandoning images."""

from collections.abc import Collection

import pytest
import torch
from support.plain import random_decoder, random_encoding, random_vocabulary
from support.recording_listener import RecordingListener

from model.decoding.caption import Caption
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions, Strategy
from model.network.decoder import Decoder

WORDS = 12
VOCABULARY = random_vocabulary(WORDS)
SEEDS = [21, 22, 23, 24]

STREAMED = [
    DecodingOptions(strategy=Strategy.GREEDY, max_words=9),
    DecodingOptions(strategy=Strategy.SAMPLE, num_captions=3, temperature=1.3, max_words=9),
]
SEARCHES = [
    DecodingOptions(strategy=Strategy.BEAM, beam_size=3, num_captions=2, max_words=9),
    DecodingOptions(strategy=Strategy.BEAM, beam_size=1, max_words=9),
    DecodingOptions(strategy=Strategy.DIVERSE, beam_size=4, num_captions=2, max_words=9),
    DecodingOptions(strategy=Strategy.CONSENSUS, beam_size=6, num_captions=2, max_words=9),
]


def name(options: DecodingOptions) -> str:
    return f"{options.strategy}-{options.beam_size}"


def generate_with(
    decoder: Decoder, options: DecodingOptions, listener: RecordingListener | None
) -> list[list[Caption]]:
    return generate(decoder, VOCABULARY, random_encoding(decoder, len(SEEDS)), options, seeds=SEEDS, listener=listener)


def endless_decoder() -> Decoder:
    return random_decoder(1, WORDS, end=-torch.inf)


@pytest.mark.parametrize("prefix", ["", "w2 airship"])
@pytest.mark.parametrize("options", STREAMED, ids=name)
def test_streamed_words_are_the_words_of_the_captions(options: DecodingOptions, prefix: str) -> None:
    options = DecodingOptions(
        strategy=options.strategy, num_captions=options.num_captions, temperature=1.3, max_words=9, prefix=prefix
    )
    decoder, listener = random_decoder(3, WORDS, end=1.0), RecordingListener()
    captions = generate_with(decoder, options, listener)
    streamed: dict[tuple[int, int], list[object]] = {}
    for number, step in enumerate(listener.steps):
        for decided_words in step:
            assert decided_words.position == number
            streamed.setdefault((decided_words.image, decided_words.caption), []).append(decided_words.word)
    expected = {
        (image, number): caption.words
        for image, captions_of_image in enumerate(captions)
        for number, caption in enumerate(captions_of_image)
    }
    assert streamed == expected
    assert len({len(words) for words in expected.values()}) > 1, "all sentences have equal length"
    assert captions == generate_with(decoder, options, None)


@pytest.mark.parametrize("options", SEARCHES, ids=name)
def test_an_unfollowed_search_reports_steps_without_words(options: DecodingOptions) -> None:
    listener = RecordingListener()
    captions = generate_with(endless_decoder(), options, listener)
    assert captions == generate_with(endless_decoder(), options, None)
    assert listener.steps == [[]] * 9


def test_diverse_search_reports_no_early_words() -> None:
    listener = RecordingListener(followed=range(len(SEEDS)))
    options = SEARCHES[2]
    assert generate_with(endless_decoder(), options, listener) == generate_with(endless_decoder(), options, None)
    assert listener.steps == [[]] * 9


@pytest.mark.parametrize("followed", [(), range(4)], ids=["unfollowed", "followed"])
@pytest.mark.parametrize("options", STREAMED + SEARCHES, ids=name)
def test_abandoned_images_get_no_captions_and_others_are_unaffected(
    options: DecodingOptions, followed: Collection[int]
) -> None:
    decoder = random_decoder(1, WORDS)
    listener = RecordingListener({2: 1, 0: 2}, followed)
    captions = generate_with(decoder, options, listener)
    undisturbed = generate_with(decoder, options, None)
    assert [captions[0], captions[2]] == [[], []]
    for image in (1, 3):  # log-probabilities vary slightly with the size of the batch
        assert [caption.text for caption in captions[image]] == [caption.text for caption in undisturbed[image]]
        for caption, same in zip(captions[image], undisturbed[image], strict=True):
            assert caption.logprob == pytest.approx(same.logprob, abs=1e-4)
    assert all(undisturbed)
    assert not any(decided_words.image == 2 for step in listener.steps[1:] for decided_words in step)
    assert not any(decided_words.image == 0 for step in listener.steps[2:] for decided_words in step)


@pytest.mark.parametrize("options", STREAMED + SEARCHES, ids=name)
def test_decoding_stops_when_all_images_are_abandoned(options: DecodingOptions) -> None:
    listener = RecordingListener({0: 1, 1: 3, 2: 3, 3: 4})
    assert generate_with(endless_decoder(), options, listener) == [[], [], [], []]
    assert len(listener.steps) == 4


@pytest.mark.parametrize("options", STREAMED + SEARCHES, ids=name)
def test_an_image_can_be_abandoned_within_the_prefix(options: DecodingOptions) -> None:
    fields = {field: getattr(options, field) for field in DecodingOptions.__dataclass_fields__}
    options = DecodingOptions(**{**fields, "prefix": "w1 w2 w3"})
    listener = RecordingListener({1: 2})
    captions = generate_with(endless_decoder(), options, listener)
    assert [bool(captions_of_image) for captions_of_image in captions] == [True, False, True, True]
    assert not any(decided_words.image == 1 for step in listener.steps[2:] for decided_words in step)
    assert len(listener.steps) == 3 + 9
