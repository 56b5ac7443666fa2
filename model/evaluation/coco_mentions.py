"""Which of COCO's 80 classes a sentence names, and which of the named things are not in the picture (CHAIR).

coco_words.toml lists the words for each class.
"""

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from model.evaluation.coco_dev import Photograph
from model.text.vocabulary import split_words

_WORDS = Path(__file__).with_name("coco_words.toml")


@dataclass(frozen=True, slots=True)
class Mention:
    """A class that a sentence names, and the position of its head word: the last one, as in "fire hydrant"."""

    name: str
    position: int


def mentions(words: Sequence[str]) -> list[Mention]:
    """Find every class that `words`, in lower case, name, in order. At each place the longest phrase counts."""
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
    """Collect all classes that any of `sentences` names."""
    return {mention.name for sentence in sentences for mention in mentions(split_words(sentence))}


def classes() -> tuple[str, ...]:
    """List the 80 classes."""
    return tuple(_file()["classes"])


def hallucination(captioned: Iterable[tuple[Photograph, str]]) -> dict[str, float]:
    """Compute CHAIR_i (over named things) and CHAIR_s (over captions) for the photographs that have boxes.

    CHAIR: Rohrbach et al., Object Hallucination in Image Captioning, 2018. A class is in the picture if it has a box or
    if a person's caption names it. The words for each class are ours, so the rates compare better between our own
    captioners than with published rates.
    """
    answers = [hallucinated(photograph, caption) for photograph, caption in captioned if photograph.boxes is not None]
    named = sum(map(len, answers))
    return {
        "captions": len(answers),
        "things_named": named,
        "chair_i": sum(map(sum, answers)) / named if named else 0.0,
        "chair_s": sum(map(any, answers)) / len(answers) if answers else 0.0,
    }


def hallucinated(photograph: Photograph, caption: str) -> list[bool]:
    """Return, for every class that the caption names, in order, whether it is missing from the photograph.

    Raises ValueError for a photograph without boxes.
    """
    if photograph.boxes is None:
        raise ValueError(f"{photograph.name} has no boxes")
    there = {box.name for box in photograph.boxes} | classes_named(photograph.captions)
    return [mention.name not in there for mention in mentions(split_words(caption))]


@cache
def _file() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(_WORDS.read_text(encoding="utf-8"))


@cache
def _phrases() -> dict[tuple[str, ...], str]:
    """Map phrases to classes, and to "" if they name none."""
    listed = _file()
    named = [(name, phrase) for name, phrases in listed["classes"].items() for phrase in phrases]
    named += [("", phrase) for phrase in listed["others"]["nothing"]]
    return {form: name for name, phrase in named for form in _forms(phrase.split())}


def _forms(phrase: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the singular and the plural."""
    *first, last = (word.removesuffix("'s") for word in phrase)
    yield (*first, last)
    yield (*first, _plural(last))


def _plural(word: str) -> str:
    """Return the regular plural. A word listed in the plural gets a second plural, which does no harm."""
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    if word.endswith("fe"):
        return f"{word[:-2]}ves"
    return f"{word}s"
