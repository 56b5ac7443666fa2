"""The words that a word detector may find in a picture. In: training captions and a vocabulary; out: their list.

Words of two kinds: content words that enough training images are described with, and what ImageNet's classes are
called in plain speech (imagenet_words.json, made from WordNet's hypernyms and read through by hand). It must not know
of tensors.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.training.dataset import Sample
from model.training.lemma import lemma
from model.vocabulary import Vocabulary, split_words

CLASSES = 1000

# Words that say nothing of what is seen, or nothing that a single place could show.
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


@dataclass(frozen=True, slots=True)
class VisibleWords:
    """The words, in their singular; the first `learnt` are to be learnt from captions."""

    words: list[str]
    learnt: int
    word_of_class: list[int]  # of each ImageNet class; len(words) where it has none
    labels: tuple[str, ...] = ()  # the last of the words: kinds of things that people found in images

    @classmethod
    def of(
        cls, samples: Sequence[Sample], vocabulary: Vocabulary, min_images: int, *, classes: bool = True
    ) -> "VisibleWords":
        """Those of a training split: words of `vocabulary` that describe `min_images` images or that name a class.

        Without `classes`, labels take the place of ImageNet's: they are learnt, too.
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
        named = {word: classes for word, classes in class_words().items() if word in known}
        words = list(dict.fromkeys([*learnt, *sorted(lemma(word, known) for word in named)]))
        number = {word: place for place, word in enumerate(words)}
        of_class = [len(words)] * CLASSES
        for word, classes in named.items():
            for index in classes:
                of_class[index] = number[lemma(word, known)]
        return cls(words, len(learnt), of_class)

    def forms_in(self, vocabulary: Vocabulary) -> list[int]:
        """For each word of the vocabulary, which of ours it is a form of; len(words) for none."""
        known = frozenset(vocabulary.words)
        number = {word: place for place, word in reversed(list(enumerate(self.words)))}  # of two alike the first
        return [number.get(lemma(word, known), len(self.words)) for word in vocabulary.words]


def said_of(sample: Sample, known: frozenset[str]) -> set[str]:
    """The singulars of all words in an image's captions."""
    return {lemma(word, known) for caption in sample.captions for word in split_words(caption)}


def class_words() -> dict[str, list[int]]:
    """ImageNet's classes by the word for them."""
    path = Path(__file__).with_name("imagenet_words.json")
    words: dict[str, list[int]] = json.loads(path.read_text(encoding="utf-8"))
    return words
