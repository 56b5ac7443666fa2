"""What a beam search tells before its end: only what stays, and as soon as that is certain."""

from collections.abc import Collection, Sequence
from itertools import takewhile

import pytest
import torch
from support.members import tiny_member
from support.onlooker import RecordingListener
from support.plain import SEEDS, SPECIAL, plain_beams, random_decoder, random_memory, random_vocabulary

from model.decoding.caption import Caption, Word
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions
from model.decoding.streaming import DecidedWord, ListenerBridge
from model.network.decoder import Decoder
from model.text.vocabulary import END, Vocabulary

IMAGES, WORDS = 7, 12
VOCABULARY = random_vocabulary(WORDS)
EVERYBODY = range(IMAGES)

every_prefix = pytest.mark.parametrize("prefix", ["", "w2 airship"])


def options_of(beams: int, prefix: str = "", captions: int = 1) -> DecodingOptions:
    return DecodingOptions(beam_size=beams, num_captions=captions, prefix=prefix, max_words=12)


def watched(
    decoder: Decoder, options: DecodingOptions, onlooker: RecordingListener | None, vocabulary: Vocabulary = VOCABULARY
) -> list[list[Caption]]:
    encoded = random_memory(decoder, IMAGES)
    return generate(decoder, vocabulary, encoded, options, seeds=None, listener=onlooker)


def told(steps: Sequence[Sequence[DecidedWord]], image: int) -> list[Word]:
    """The words of an image, which must come in order and be of the first caption."""
    decided_words = [one for step in steps for one in step if one.image == image]
    assert [(one.caption, one.position) for one in decided_words] == [
        (0, number) for number in range(len(decided_words))
    ]
    return [one.word for one in decided_words]


@every_prefix
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_the_words_told_are_those_with_which_all_captions_begin(
    beams: int, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []  # how many images were left when others had left the batch
    keep = ListenerBridge.keep

    def noted(bridge: ListenerBridge, rows: torch.Tensor) -> None:
        left.append(len(rows))
        keep(bridge, rows)

    monkeypatch.setattr(ListenerBridge, "keep", noted)
    early = 0
    for seed in range(12):
        decoder, options = random_decoder(seed, WORDS, end=1.0), options_of(beams, prefix, captions=beams)
        onlooker = RecordingListener(followed=EVERYBODY)
        captions = watched(decoder, options, onlooker)
        assert captions == watched(decoder, options, None)
        for image, of_image in enumerate(captions):
            words = told(onlooker.steps, image)
            assert words == of_image[0].words[: len(words)]
            for caption in of_image:
                assert [word.text for word in caption.words][: len(words)] == [word.text for word in words]
            # Of the search: the words of a prefix are certain anyway.
            longest = max(len(caption.words) for caption in of_image)
            early += len(told(onlooker.steps[: longest - 1], image)) > len(prefix.split())
    assert early > IMAGES, "next to nothing was told before the end"
    assert left, "nothing left the batch: this shows little"


@pytest.mark.parametrize("beams", [2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_they_are_told_as_soon_as_they_are_certain(seed: int, beams: int) -> None:
    decoder = random_decoder(seed, WORDS, end=-2.0)
    onlooker = RecordingListener(followed=EVERYBODY)
    watched(decoder, options_of(beams), onlooker)
    encoded = random_memory(decoder, IMAGES)
    for image in EVERYBODY:
        for number, alive in enumerate(plain_beams(decoder, encoded.select([image]), beams, 12, repeatable=1), 1):
            columns = zip(*(tokens for _, tokens in alive), strict=False)
            shared = [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, columns)]
            words = [f"w{token - SPECIAL}" for token in shared]
            assert [word.text for word in told(onlooker.steps[:number], image)] == words
            if all(tokens[-1] == END for _, tokens in alive):
                break


@every_prefix
def test_who_comes_late_is_told_all_that_was_certain_before(prefix: str) -> None:
    class Late(RecordingListener):
        def step(self, decided_words: Sequence[DecidedWord]) -> Collection[int]:
            if len(self.steps) == 7:
                self.followed = comers
            return super().step(decided_words)

    decoder, options = random_decoder(1, WORDS, end=-torch.inf), options_of(3, prefix)
    late, early = Late(), RecordingListener(followed=EVERYBODY)
    captions = watched(decoder, options, early)
    comers = [image for image in EVERYBODY if len(told(early.steps[:8], image)) > 0][:2]
    assert comers, "nothing to be late for"
    assert watched(decoder, options, late) == captions
    assert not any(late.steps[:8])
    for image in EVERYBODY:
        assert told(late.steps, image) == (told(early.steps, image) if image in comers else [])


@pytest.mark.parametrize("prefix", ["", "A Bad-egg"])
def test_of_characters_whole_words_are_told(prefix: str) -> None:
    several = 0
    for seed in range(3):
        decoder, vocabulary = tiny_member("lstm-additive-characters", seed, end=-3.0)
        options, onlooker = options_of(4, prefix, captions=2), RecordingListener(followed=EVERYBODY)
        captions = watched(decoder, options, onlooker, vocabulary)
        assert captions == watched(decoder, options, None, vocabulary)
        for image, of_image in enumerate(captions):
            words = told(onlooker.steps, image)
            assert words == of_image[0].words[: len(words)]
            several += len(words) > 1 + len(prefix.split())
    assert several, "nothing to tell: this shows nothing"


def test_beams_that_never_lived_say_nothing() -> None:
    # One word to say and no end to it: of ten beams, one lives.
    decoder, onlooker = random_decoder(5, 1, end=-torch.inf), RecordingListener(followed=EVERYBODY)
    options = DecodingOptions(beam_size=10, max_words=3, repeatable=None)
    captions = watched(decoder, options, onlooker, random_vocabulary(1))
    for image, (caption,) in enumerate(captions):
        assert [len(told([step], image)) for step in onlooker.steps[:1]] == [1]
        assert told(onlooker.steps, image) == caption.words
