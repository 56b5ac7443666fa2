"""Beam search reports words before its end: only words that stay, and as soon as they are certain."""

from collections.abc import Collection, Sequence
from itertools import takewhile

import pytest
import torch
from support.members import tiny_member
from support.plain import SEEDS, SPECIAL, plain_beams, random_decoder, random_encoding, random_vocabulary
from support.recording_listener import RecordingListener

from model.decoding.caption import Caption, Word
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions
from model.decoding.streaming import DecidedWord, ListenerBridge
from model.network.decoder import Decoder
from model.text.vocabulary import END, Vocabulary

IMAGES, WORDS = 7, 12
VOCABULARY = random_vocabulary(WORDS)
ALL_IMAGES = range(IMAGES)

every_prefix = pytest.mark.parametrize("prefix", ["", "w2 airship"])


def options_of(beams: int, prefix: str = "", captions: int = 1) -> DecodingOptions:
    return DecodingOptions(beam_size=beams, num_captions=captions, prefix=prefix, max_words=12)


def generate_with(
    decoder: Decoder, options: DecodingOptions, listener: RecordingListener | None, vocabulary: Vocabulary = VOCABULARY
) -> list[list[Caption]]:
    encoded = random_encoding(decoder, IMAGES)
    return generate(decoder, vocabulary, encoded, options, seeds=None, listener=listener)


def reported(steps: Sequence[Sequence[DecidedWord]], image: int) -> list[Word]:
    """Return the reported words of an image. They must come in order and belong to the first caption."""
    decided_words = [decided for step in steps for decided in step if decided.image == image]
    assert [(decided.caption, decided.position) for decided in decided_words] == [
        (0, number) for number in range(len(decided_words))
    ]
    return [decided.word for decided in decided_words]


@every_prefix
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_early_words_are_a_common_prefix_of_all_captions(
    beams: int, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remaining: list[int] = []  # how many images remained when others left the batch
    keep = ListenerBridge.keep

    def spy(bridge: ListenerBridge, rows: torch.Tensor) -> None:
        remaining.append(len(rows))
        keep(bridge, rows)

    monkeypatch.setattr(ListenerBridge, "keep", spy)
    early = 0
    for seed in range(12):
        decoder, options = random_decoder(seed, WORDS, end=1.0), options_of(beams, prefix, captions=beams)
        listener = RecordingListener(followed=ALL_IMAGES)
        captions = generate_with(decoder, options, listener)
        assert captions == generate_with(decoder, options, None)
        for image, captions_of_image in enumerate(captions):
            words = reported(listener.steps, image)
            assert words == captions_of_image[0].words[: len(words)]
            for caption in captions_of_image:
                assert [word.text for word in caption.words][: len(words)] == [word.text for word in words]
            # The words of the prefix are certain anyway.
            longest = max(len(caption.words) for caption in captions_of_image)
            early += len(reported(listener.steps[: longest - 1], image)) > len(prefix.split())
    assert early > IMAGES, "hardly any word was reported before the end"
    assert remaining, "no image left the batch early"


@pytest.mark.parametrize("beams", [2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_words_are_reported_as_soon_as_they_are_certain(seed: int, beams: int) -> None:
    decoder = random_decoder(seed, WORDS, end=-2.0)
    listener = RecordingListener(followed=ALL_IMAGES)
    generate_with(decoder, options_of(beams), listener)
    encoded = random_encoding(decoder, IMAGES)
    for image in ALL_IMAGES:
        for number, alive in enumerate(plain_beams(decoder, encoded.select([image]), beams, 12, repeatable=1), 1):
            columns = zip(*(tokens for _, tokens in alive), strict=False)
            shared = [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, columns)]
            words = [f"w{token - SPECIAL}" for token in shared]
            assert [word.text for word in reported(listener.steps[:number], image)] == words
            if all(tokens[-1] == END for _, tokens in alive):
                break


@every_prefix
def test_a_late_follower_gets_all_certain_words(prefix: str) -> None:
    class LateListener(RecordingListener):
        def step(self, decided_words: Sequence[DecidedWord]) -> Collection[int]:
            if len(self.steps) == 7:
                self.followed = followers
            return super().step(decided_words)

    decoder, options = random_decoder(1, WORDS, end=-torch.inf), options_of(3, prefix)
    late, early = LateListener(), RecordingListener(followed=ALL_IMAGES)
    captions = generate_with(decoder, options, early)
    followers = [image for image in ALL_IMAGES if len(reported(early.steps[:8], image)) > 0][:2]
    assert followers, "no words to report late"
    assert generate_with(decoder, options, late) == captions
    assert not any(late.steps[:8])
    for image in ALL_IMAGES:
        assert reported(late.steps, image) == (reported(early.steps, image) if image in followers else [])


@pytest.mark.parametrize("prefix", ["", "A Bad-egg"])
def test_characters_are_reported_as_whole_words(prefix: str) -> None:
    several = 0
    for seed in range(3):
        decoder, vocabulary = tiny_member("lstm-additive-characters", seed, end=-3.0)
        options, listener = options_of(4, prefix, captions=2), RecordingListener(followed=ALL_IMAGES)
        captions = generate_with(decoder, options, listener, vocabulary)
        assert captions == generate_with(decoder, options, None, vocabulary)
        for image, captions_of_image in enumerate(captions):
            words = reported(listener.steps, image)
            assert words == captions_of_image[0].words[: len(words)]
            several += len(words) > 1 + len(prefix.split())
    assert several, "no words were reported"


def test_dead_beams_do_not_delay_certain_words() -> None:
    # With one word and no <end>, one of ten beams is alive.
    decoder, listener = random_decoder(5, 1, end=-torch.inf), RecordingListener(followed=ALL_IMAGES)
    options = DecodingOptions(beam_size=10, max_words=3, repeatable=None)
    captions = generate_with(decoder, options, listener, random_vocabulary(1))
    for image, (caption,) in enumerate(captions):
        assert [len(reported([step], image)) for step in listener.steps[:1]] == [1]
        assert reported(listener.steps, image) == caption.words
