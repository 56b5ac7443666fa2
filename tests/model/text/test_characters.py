"""Captioners that write characters still produce words."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest
import torch
from support.members import ALPHABET, tiny_member
from support.plain import random_encoding
from support.recording_listener import RecordingListener

from model.decoding.caption import Caption
from model.decoding.constraints import CharacterConstraints
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions, Strategy
from model.decoding.teacher_forcing import score
from model.text.characters import LONGEST_WORD, SPACE, Characters
from model.text.vocabulary import END, UNKNOWN, split_words

MEMBER = "lstm-additive-characters"
STRATEGIES = [
    DecodingOptions(strategy=Strategy.BEAM, beam_size=4, num_captions=4, max_words=5),
    DecodingOptions(strategy=Strategy.GREEDY, max_words=5),
    DecodingOptions(strategy=Strategy.SAMPLE, num_captions=4, temperature=1.2, max_words=5),
    DecodingOptions(strategy=Strategy.DIVERSE, beam_size=4, num_captions=2, max_words=5),
    DecodingOptions(strategy=Strategy.CONSENSUS, beam_size=6, num_captions=2, max_words=5),
]
every_strategy = pytest.mark.parametrize("options", STRATEGIES, ids=lambda options: options.strategy)
PREFIXES = ["", "A Bad-egg", "the é", "incomprehensibilities"]


def changed(options: DecodingOptions, **settings: object) -> DecodingOptions:
    fields = {name: getattr(options, name) for name in DecodingOptions.__dataclass_fields__}
    return DecodingOptions(**{**fields, **settings})


def captions_of(
    options: DecodingOptions, seed: int = 0, end: float = 0.0, listener: RecordingListener | None = None
) -> list[list[Caption]]:
    decoder, vocabulary = tiny_member(MEMBER, seed, end)
    return generate(decoder, vocabulary, random_encoding(decoder, 3), options, seeds=[1, 2, 3], listener=listener)


# Words to characters and back.


@pytest.mark.parametrize("sentence", ["a man's t-shirt", "2 dogs", "a"])
def test_encode_and_decode_are_inverse(sentence: str) -> None:
    vocabulary = Characters()
    tokens = vocabulary.encode(sentence.upper() + " .")
    assert [vocabulary.word(token) for token in tokens] == list(sentence)
    assert vocabulary.decode(tokens) == sentence
    assert END not in tokens


def test_a_span_has_the_letters_and_the_space_after_them() -> None:
    spans = Characters().spans(Characters().encode("a big dog"))
    assert [tuple(span) for span in spans] == [(0, 1, 2), (2, 5, 6), (6, 9, 9)]
    assert Characters().spans([]) == []


def test_a_training_caption_is_cut_after_whole_words() -> None:
    assert Characters().decode(Characters().encode("one two three", max_words=2)) == "one two"


def test_unknown_letters_become_unk() -> None:
    assert Characters().encode("né")[1] == UNKNOWN


def test_an_alphabet_can_be_saved_and_other_lists_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    Characters().save(path)
    assert Characters.load(path).words == Characters().words
    for other in (["dog"], ["a", "b", "c", "d"], [" ", "'", "-", "ab"]):
        path.write_text(json.dumps(other))
        with pytest.raises(ValueError, match="single characters"):
            Characters.load(path)


# Constraints.

_WORD = "[a-z]+(?:['-][a-z]+)*"
_WHOLE = re.compile(f"{_WORD}(?: {_WORD})*")


def may_follow(sentence: str, max_words: int, prefix: str) -> set[str]:
    """Return the characters that may follow `sentence`, "$" for its end, by plain rules."""
    letters, longest = ALPHABET[3:], LONGEST_WORD
    allowed = set()
    for character in (*ALPHABET, "$"):
        if character == "$":
            good = bool(_WHOLE.fullmatch(sentence))
        else:  # one more letter must complete it
            longer = sentence + character
            whole = longer if character in letters else longer + letters[0]
            new = whole.removeprefix(prefix)
            good = (
                bool(_WHOLE.fullmatch(whole))
                and len(whole.split()[-1]) <= longest
                and len(new.split()) <= max_words
                and not (prefix and sentence == prefix and character != " ")
            )
        if good:
            allowed.add(character)
    return allowed


@pytest.mark.parametrize("prefix", ["", "a", "bad eg"])
def test_only_characters_that_form_words_may_follow(prefix: str) -> None:
    vocabulary = Characters(ALPHABET)
    forced = vocabulary.encode(prefix)
    constraints = CharacterConstraints(max_words=2, prefix=len(forced))
    endings = ["", "h", " a", " ba-", " b'a", " a b", " a ", " a" + "b" * 14, " " + "c" * 15, " " + "d" * 16, "f" * 16]
    for ending in endings:
        sentence = prefix + ending.lstrip() if not prefix else prefix + ending
        if prefix and ending and not ending.startswith(" "):
            continue  # no letter may follow a prefix
        tokens = torch.tensor([[[vocabulary._ids[character] for character in sentence]]], dtype=torch.long)
        logprobs = torch.zeros(1, 1, len(vocabulary))
        constraints.apply(logprobs, tokens)
        found = {vocabulary.word(token) for token in range(SPACE, len(vocabulary)) if logprobs[0, 0, token] == 0}
        if logprobs[0, 0, END] > -math.inf:
            found.add("$")
        assert found == may_follow(sentence, 2, prefix), sentence


@pytest.mark.parametrize("prefix", PREFIXES)
@every_strategy
def test_captions_are_words_and_respect_max_words(options: DecodingOptions, prefix: str) -> None:
    lengths = set()
    for seed, max_words in itertools.product(range(3), (1, 3)):
        for captions in captions_of(changed(options, prefix=prefix, max_words=max_words), seed, end=-1.0):
            assert captions
            for caption in captions:
                words = [word.text for word in caption.words]
                assert split_words(caption.text) == words
                assert words[: len(split_words(prefix))] == split_words(prefix)
                lengths.add(len(words) - len(split_words(prefix)))
                assert all(sum(word.attention.weights) == pytest.approx(1, abs=1e-4) for word in caption.words)
    assert max(lengths) == 3
    assert min(lengths) >= (0 if prefix else 1)


# Scores and streaming.


@pytest.mark.parametrize("prefix", PREFIXES)
@every_strategy
def test_generated_captions_score_as_reported(options: DecodingOptions, prefix: str) -> None:
    # Finds attention of the wrong beam and spaces that are counted twice.
    decoder, vocabulary = tiny_member(MEMBER, seed=1, end=5.0)
    encoded = random_encoding(decoder, 3)
    options = changed(options, prefix=prefix, max_words=20)
    uncut = 0
    for image, captions in enumerate(generate(decoder, vocabulary, encoded, options, seeds=[1, 2, 3], listener=None)):
        for caption in captions:
            (again,) = score(decoder, vocabulary, encoded.select([image]), [caption.text])
            assert len(again.words) == len(caption.words)
            if len(caption.words) >= 20:
                continue  # cut, so the decision to end differs
            uncut += 1
            assert caption.logprob == pytest.approx(again.logprob, abs=1e-3)
            for word, same in zip(caption.words, again.words, strict=True):
                assert (word.text, word.in_vocabulary) == (same.text, same.in_vocabulary)
                assert word.logprob == pytest.approx(same.logprob, abs=1e-3)
                assert word.attention.weights == pytest.approx(same.attention.weights, abs=1e-5)
    assert uncut


@torch.inference_mode()
def test_a_caption_score_is_the_sum_of_its_words_and_the_end() -> None:
    decoder, vocabulary = tiny_member(MEMBER)
    encoded = random_encoding(decoder)
    logits, attention = decoder(encoded, torch.tensor([[[1, *vocabulary.encode("bad egg")]]]))
    tokens = [*vocabulary.encode("bad egg"), END]
    logprobs = [logits[0, 0, step].log_softmax(0)[token].item() for step, token in enumerate(tokens)]
    (caption,) = score(decoder, vocabulary, encoded, ["Bad egg!"])
    assert caption.logprob == pytest.approx(sum(logprobs), abs=1e-4)
    assert [word.logprob for word in caption.words] == pytest.approx([sum(logprobs[:4]), sum(logprobs[4:7])], abs=1e-4)
    for word, letters in zip(caption.words, (slice(0, 3), slice(4, 7)), strict=True):
        assert word.attention.weights == pytest.approx(attention[0, 0, letters].mean(dim=0).tolist(), abs=1e-5)


@torch.inference_mode()
def test_a_cut_sentence_sums_end_and_continuation() -> None:
    decoder, vocabulary = tiny_member(MEMBER, seed=3, end=-1.0)
    encoded = random_encoding(decoder)
    options = DecodingOptions(strategy=Strategy.GREEDY, max_words=2)
    ((caption,),) = generate(decoder, vocabulary, encoded, options, seeds=None, listener=None)
    assert len(caption.words) == 2
    tokens = vocabulary.encode(caption.text)
    logits, _ = decoder(encoded, torch.tensor([[[1, *tokens]]]))
    logprobs = logits[0, 0].log_softmax(dim=1)
    spelt = sum(logprobs[step, token].item() for step, token in enumerate(tokens))
    assert caption.logprob == pytest.approx(spelt + logprobs[-1, [END, SPACE]].logsumexp(0).item(), abs=1e-4)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("options", [STRATEGIES[1], STRATEGIES[2]], ids=lambda options: options.strategy)
def test_words_are_streamed_when_complete(options: DecodingOptions, prefix: str) -> None:
    listener = RecordingListener()
    captions = captions_of(changed(options, prefix=prefix), seed=3, listener=listener)
    streamed: dict[tuple[int, int], list[object]] = {}
    for step in listener.steps:
        for decided_words in step:
            words = streamed.setdefault((decided_words.image, decided_words.caption), [])
            assert decided_words.position == len(words)
            words.append(decided_words.word)
    assert streamed == {
        (i, n): caption.words
        for i, captions_of_image in enumerate(captions)
        for n, caption in enumerate(captions_of_image)
    }
    assert sum(map(bool, listener.steps)) > 1, "all words came in one step"


def test_abandoned_images_get_no_captions_and_others_are_unaffected() -> None:
    undisturbed = captions_of(STRATEGIES[2])
    assert captions_of(STRATEGIES[2], listener=RecordingListener({1: 4})) == [undisturbed[0], [], undisturbed[2]]
