"""Words and their ids."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text.vocabulary import END, PAD, SPECIALS, START, UNKNOWN, Vocabulary, split_words


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A dog runs .", ["a", "dog", "runs"]),
        ("A man's t-shirt, (red)!", ["a", "man's", "t-shirt", "red"]),
        ("'quoted' - and -dashed-", ["quoted", "and", "dashed"]),
        ("2 dogs", ["2", "dogs"]),
        (" . ", []),
        ("", []),
    ],
)
def test_words_are_lower_case_and_free_of_punctuation(sentence: str, words: list[str]) -> None:
    assert split_words(sentence) == words


@given(st.text())
def test_splitting_is_idempotent(sentence: str) -> None:
    words = split_words(sentence)
    assert split_words(" ".join(words)) == words


def test_the_special_tokens_come_first() -> None:
    vocabulary = Vocabulary(["dog"])
    assert [vocabulary.word(token) for token in (PAD, START, END, UNKNOWN)] == list(SPECIALS)
    assert vocabulary.word(len(SPECIALS)) == "dog"
    assert len(vocabulary) == len(SPECIALS) + 1


def test_frequent_words_are_sorted_by_count_then_alphabet() -> None:
    vocabulary = Vocabulary.from_sentences(["b a c", "B c rare", "b"], min_count=1)
    assert vocabulary.words[len(SPECIALS) :] == ("b", "c", "a", "rare")
    assert Vocabulary.from_sentences(["b a c", "B c rare", "b"], min_count=2).words[len(SPECIALS) :] == ("b", "c")


def test_unknown_words_are_encoded_as_unk() -> None:
    vocabulary = Vocabulary(["a", "dog"])
    tokens = vocabulary.encode("A purple dog.")
    assert [vocabulary.word(token) for token in tokens] == ["a", "<unk>", "dog"]


def test_a_sentence_cannot_name_a_special_token() -> None:
    assert Vocabulary(["a"]).encode("<start> a <end> <pad>") == [UNKNOWN, 4, UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("words", [["dog", "dog"], ["<pad>"]])
def test_duplicate_words_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(words)


def test_save_and_load_are_inverse(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["dog", "man's", "café", "犬"])
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json").words == vocabulary.words
    assert json.loads((tmp_path / "vocabulary.json").read_text()) == ["dog", "man's", "café", "犬"]


@pytest.mark.parametrize("text", ["5", "null", '"abc"', '{"a": 1}', "[1, 2]", "[[]]", '["a", "a"]', "[", "\udcff"])
def test_a_file_that_is_not_a_list_of_words_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError):  # noqa: PT011 - the message differs by what is wrong
        Vocabulary.load(path)
