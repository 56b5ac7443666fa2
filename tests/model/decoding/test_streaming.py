"""Looking on while captions are written, and giving up on some."""

from collections.abc import Collection

import pytest
import torch
from support.onlooker import RecordingListener
from support.plain import random_decoder, random_memory, random_vocabulary

from model.decoding.caption import Caption
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions, Strategy
from model.network.decoder import Decoder

WORDS = 12
VOCABULARY = random_vocabulary(WORDS)
SEEDS = [21, 22, 23, 24]

TOLD = [
    DecodingOptions(strategy=Strategy.GREEDY, max_words=9),
    DecodingOptions(strategy=Strategy.SAMPLE, num_captions=3, temperature=1.3, max_words=9),
]
UNTOLD = [
    DecodingOptions(strategy=Strategy.BEAM, beam_size=3, num_captions=2, max_words=9),
    DecodingOptions(strategy=Strategy.BEAM, beam_size=1, max_words=9),
    DecodingOptions(strategy=Strategy.DIVERSE, beam_size=4, num_captions=2, max_words=9),
    DecodingOptions(strategy=Strategy.CONSENSUS, beam_size=6, num_captions=2, max_words=9),
]


def name(options: DecodingOptions) -> str:
    return f"{options.strategy}-{options.beam_size}"


def watched(decoder: Decoder, options: DecodingOptions, onlooker: RecordingListener | None) -> list[list[Caption]]:
    return generate(decoder, VOCABULARY, random_memory(decoder, len(SEEDS)), options, seeds=SEEDS, listener=onlooker)


def endless_decoder() -> Decoder:
    return random_decoder(1, WORDS, end=-torch.inf)


@pytest.mark.parametrize("prefix", ["", "w2 airship"])
@pytest.mark.parametrize("options", TOLD, ids=name)
def test_the_words_told_are_those_of_the_captions(options: DecodingOptions, prefix: str) -> None:
    options = DecodingOptions(
        strategy=options.strategy, num_captions=options.num_captions, temperature=1.3, max_words=9, prefix=prefix
    )
    decoder, onlooker = random_decoder(3, WORDS, end=1.0), RecordingListener()
    captions = watched(decoder, options, onlooker)
    told: dict[tuple[int, int], list[object]] = {}
    for number, step in enumerate(onlooker.steps):
        for decided_words in step:
            assert decided_words.position == number
            told.setdefault((decided_words.image, decided_words.caption), []).append(decided_words.word)
    expected = {
        (image, number): caption.words
        for image, of_image in enumerate(captions)
        for number, caption in enumerate(of_image)
    }
    assert told == expected
    assert len({len(words) for words in expected.values()}) > 1, "sentences of one length would prove little"
    assert captions == watched(decoder, options, None)


@pytest.mark.parametrize("options", UNTOLD, ids=name)
def test_a_search_that_nobody_follows_tells_no_words_but_every_step(options: DecodingOptions) -> None:
    onlooker = RecordingListener()
    captions = watched(endless_decoder(), options, onlooker)
    assert captions == watched(endless_decoder(), options, None)
    assert onlooker.steps == [[]] * 9


def test_what_is_found_in_groups_is_open_until_the_end() -> None:
    onlooker = RecordingListener(followed=range(len(SEEDS)))
    options = UNTOLD[2]
    assert watched(endless_decoder(), options, onlooker) == watched(endless_decoder(), options, None)
    assert onlooker.steps == [[]] * 9


@pytest.mark.parametrize("followed", [(), range(4)], ids=["unfollowed", "followed"])
@pytest.mark.parametrize("options", TOLD + UNTOLD, ids=name)
def test_who_was_given_up_gets_nothing_and_the_others_do_not_notice(
    options: DecodingOptions, followed: Collection[int]
) -> None:
    decoder = random_decoder(1, WORDS)
    onlooker = RecordingListener({2: 1, 0: 2}, followed)
    captions = watched(decoder, options, onlooker)
    undisturbed = watched(decoder, options, None)
    assert [captions[0], captions[2]] == [[], []]
    for image in (1, 3):  # nearly the same numbers: the others may have left the batch
        assert [caption.text for caption in captions[image]] == [caption.text for caption in undisturbed[image]]
        for caption, same in zip(captions[image], undisturbed[image], strict=True):
            assert caption.logprob == pytest.approx(same.logprob, abs=1e-4)
    assert all(undisturbed)
    assert not any(decided_words.image == 2 for step in onlooker.steps[1:] for decided_words in step)
    assert not any(decided_words.image == 0 for step in onlooker.steps[2:] for decided_words in step)


@pytest.mark.parametrize("options", TOLD + UNTOLD, ids=name)
def test_when_nobody_is_left_it_ends(options: DecodingOptions) -> None:
    onlooker = RecordingListener({0: 1, 1: 3, 2: 3, 3: 4})
    assert watched(endless_decoder(), options, onlooker) == [[], [], [], []]
    assert len(onlooker.steps) == 4


@pytest.mark.parametrize("options", TOLD + UNTOLD, ids=name)
def test_an_image_can_be_given_up_within_the_prefix(options: DecodingOptions) -> None:
    fields = {field: getattr(options, field) for field in DecodingOptions.__dataclass_fields__}
    options = DecodingOptions(**{**fields, "prefix": "w1 w2 w3"})
    onlooker = RecordingListener({1: 2})
    captions = watched(endless_decoder(), options, onlooker)
    assert [bool(of_image) for of_image in captions] == [True, False, True, True]
    assert not any(decided_words.image == 1 for step in onlooker.steps[2:] for decided_words in step)
    assert len(onlooker.steps) == 3 + 9
