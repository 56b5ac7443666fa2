"""The words that a word detector can find in an image.

There are three kinds: content words that enough training captions use, labels of the training images, and plain names
of ImageNet's classes (imagenet_words.json, made from WordNet's hypernyms and checked by hand).
"""

import json
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.text.vocabulary import Vocabulary, split_words
from model.training.dataset import Sample

CLASSES = 1000

# Words that describe nothing visible, or nothing that a single place of an image could show.
_UNSEEN = frozenset(
    """
    a an the in on is and with of are to at his her while down through that by its from as for over into up out it
    off their another other each one two three four five some several there be has have being who he she they him
    this what which or behind near next top front back side around against along across under above below between
    before after towards toward away very like look looks looking holding wearing standing sitting group holds
    wears stands sits getting going using taking making doing something someone during about onto inside outside
    together all many both way s t no not them can just where do
    """.split()  # noqa: SIM905
)
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "skis": "ski",
    "leaves": "leaf",
    "feet": "foot",
    "knives": "knife",
    "buses": "bus",
    "shelves": "shelf",
    "mice": "mouse",
    "loaves": "loaf",
    "sandwiches": "sandwich",
    "benches": "bench",
    "dishes": "dish",
}
_ALWAYS_PLURAL = {"glasses", "jeans"}


@dataclass(frozen=True, slots=True)
class VisibleWords:
    """The words, in the singular. Captions and labels teach the first `learnt` of them."""

    words: list[str]
    learnt: int
    word_of_class: list[int]  # of each ImageNet class; len(words) for a class without a word
    labels: tuple[str, ...] = ()  # the last of the words

    @classmethod
    def of(
        cls, samples: Sequence[Sample], vocabulary: Vocabulary, min_images: int, *, classes: bool = True
    ) -> "VisibleWords":
        """Collect the words of `vocabulary` that describe `min_images` images or that name a class.

        Without `classes`, collect the labels of the images instead of words for ImageNet's classes.
        """
        known = frozenset(vocabulary.words)
        images: Counter[str] = Counter()
        for sample in samples:
            images.update(said_of(sample, known))
        common = sorted((word for word, count in images.items() if count >= min_images), key=lambda w: (-images[w], w))
        learnt = [word for word in common if word in known and word not in _UNSEEN and len(word) > 1]
        if not classes:
            labels = tuple(sorted({label for sample in samples for label in sample.labels or ()}))
            return cls([*learnt, *labels], len(learnt) + len(labels), [], labels)
        named = {word: numbers for word, numbers in class_words().items() if word in known}
        words = list(dict.fromkeys([*learnt, *sorted(lemma(word, known) for word in named)]))
        number = {word: place for place, word in enumerate(words)}
        of_class = [len(words)] * CLASSES
        for word, numbers in named.items():
            for index in numbers:
                of_class[index] = number[lemma(word, known)]
        return cls(words, len(learnt), of_class)

    def forms_in(self, vocabulary: Vocabulary) -> list[int]:
        """Map each word of the vocabulary to the visible word that it is a form of, or to len(words)."""
        known = frozenset(vocabulary.words)
        # If a word of captions is also a label, the word.
        number = {word: place for place, word in reversed([*enumerate(self.words)])}
        return [number.get(lemma(word, known), len(self.words)) for word in vocabulary.words]


def said_of(sample: Sample, known: frozenset[str]) -> set[str]:
    """Collect the singulars of all words in the captions of an image."""
    return {lemma(word, known) for caption in sample.captions for word in split_words(caption)}


def class_words() -> dict[str, list[int]]:
    """Load the words for ImageNet's classes: word → class numbers."""
    path = Path(__file__).with_name("imagenet_words.json")
    words: dict[str, list[int]] = json.loads(path.read_text(encoding="utf-8"))
    return words


def lemma(word: str, known: Container[str]) -> str:
    """Return the singular of `word` if it is a plural of one of the `known` words, otherwise `word`.

    A few rules are enough: "dogs" and "dog" must count as one visible thing, and a mistake costs one word.
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _ALWAYS_PLURAL:
        return word
    if len(word) > 4 and word.endswith("ies") and f"{word[:-3]}y" in known:
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith("es") and word[:-2].endswith(("ch", "sh", "ss", "x")) and word[:-2] in known:
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss") and word[:-1] in known:
        return word[:-1]
    return word
