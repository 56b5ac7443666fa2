"""Which of COCO's 80 classes the words of a sentence name. In: words; out: where each class is named.

The words that name a class are in coco_words.toml, beside this file. It must not know of pictures.
"""

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from model.vocabulary import split_words

_WORDS = Path(__file__).with_name("coco_words.toml")


@dataclass(frozen=True, slots=True)
class Mention:
    """A class that is named, and the place of its head word: the last one, as in "fire hydrant"."""

    name: str
    position: int


def mentions(words: Sequence[str]) -> list[Mention]:
    """Every class that `words`, in lower case, name, in order; the longest phrase at each place."""
    phrases = _phrases()
    longest = max(map(len, phrases))
    bare = [word.removesuffix("'s") for word in words]
    found, start = [], 0
    while start < len(bare):
        for length in range(min(longest, len(bare) - start), 0, -1):
            name = phrases.get(tuple(bare[start : start + length]))
            if name is not None:
                if name:
                    found.append(Mention(name, start + length - 1))
                start += length
                break
        else:
            start += 1
    return found


def classes_named(sentences: Iterable[str]) -> set[str]:
    """All classes that any of `sentences` names."""
    return {mention.name for sentence in sentences for mention in mentions(split_words(sentence))}


def classes() -> tuple[str, ...]:
    """The 80 classes."""
    return tuple(_file()["classes"])


@cache
def _file() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(_WORDS.read_text(encoding="utf-8"))


@cache
def _phrases() -> dict[tuple[str, ...], str]:
    """Phrase → class, or "" for a phrase that names none."""
    listed = _file()
    named = [(name, phrase) for name, phrases in listed["classes"].items() for phrase in phrases]
    named += [("", phrase) for phrase in listed["others"]["nothing"]]
    return {form: name for name, phrase in named for form in _forms(phrase.split())}


def _forms(phrase: list[str]) -> Iterator[tuple[str, ...]]:
    *first, last = (word.removesuffix("'s") for word in phrase)
    yield (*first, last)
    yield (*first, _plural(last))


def _plural(word: str) -> str:
    """The regular plural. What is listed in the plural gets one more that nobody writes, which does no harm."""
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    if word.endswith("fe"):
        return f"{word[:-2]}ves"
    return f"{word}s"
