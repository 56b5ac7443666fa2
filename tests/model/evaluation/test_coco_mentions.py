"""Mentions of COCO's classes in sentences."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from model.evaluation.coco_mentions import Mention, classes, classes_named, mentions
from model.text.function_words import DANGLING, FUNCTION_WORDS


@pytest.mark.parametrize(
    ("sentence", "named"),
    [
        ("two men and a woman ride bikes", [("person", 1), ("person", 4), ("bicycle", 6)]),
        ("a hot dog next to a dog", [("hot dog", 2), ("dog", 6)]),
        ("a teddy bear and a polar bear", [("teddy bear", 2), ("bear", 6)]),
        ("a fire hydrant by two stop signs", [("fire hydrant", 2), ("stop sign", 6)]),
        ("a man's bag on benches", [("person", 1), ("bench", 4)]),
        ("knives and buses and puppies", [("knife", 0), ("bus", 2), ("dog", 4)]),
        ("a baby elephant", [("elephant", 2)]),
        ("a train on train tracks", [("train", 1)]),
        ("an orange shirt and oranges", [("orange", 4)]),
        ("a sunny day", []),
    ],
)
def test_mentions_are_at_the_head_word(sentence: str, named: list[tuple[str, int]]) -> None:
    assert mentions(sentence.split()) == [Mention(name, position) for name, position in named]


def test_every_class_name_mentions_its_class() -> None:
    assert len(classes()) == 80
    for name in classes():
        # "orange" is nearly always the colour, so it does not name the fruit.
        assert classes_named([f"There are two {name}s here .", f"A {name} ."]) == {name}, name


def test_no_phrase_names_two_classes() -> None:
    file = Path(__file__).parents[3] / "model/evaluation/coco_words.toml"
    listed = tomllib.loads(file.read_text())
    phrases = [phrase for words in listed["classes"].values() for phrase in words] + listed["others"]["nothing"]
    assert [phrase for phrase, times in Counter(phrases).items() if times > 1] == []


def test_words_that_end_badly_are_function_words() -> None:
    assert DANGLING < FUNCTION_WORDS
    assert {"a", "the", "with", "of", "in", "and", "is", "his"} <= DANGLING
    assert not DANGLING & {"outside", "around", "it", "dog"}
