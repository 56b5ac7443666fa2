"""Captions without images, and imagined images for them.

The decoder learns from a sentence alone: it is given the sentence's own visible words as if a detector had found them,
with as many omissions, mistakes and additions as real detectors make.
"""

import gzip
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from model.text.vocabulary import UNKNOWN, Vocabulary
from model.training.batches import pad_captions
from model.training.dataset import DatasetUnusable

_PLACES = 14  # of an imagined image
_STRAYS = 3  # places that can show something that the sentence does not name


class TextRecipe(BaseModel):
    """Settings of learning from text alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_count: int = Field(20, ge=1)  # how often captions and text must use a word for it to be learnt
    min_named_count: int = Field(8, ge=1)  # the same for a word that names a class of ImageNet
    files: list[str] = ["flickr30k.txt.gz", "coco.txt.gz"]  # in the data folder's text/; drawn from in equal parts
    sentences_per_step: int = Field(72, ge=1)
    weight: float = Field(0.6, ge=0)  # of the loss of text relative to that of captions of images
    found: float = Field(0.85, ge=0, le=1)  # the probability that a named thing is seen
    found_else: float = Field(0.65, ge=0, le=1)  # the same for any other visible word: a colour, a manner


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Sentences, each with an imagined image."""

    words: torch.Tensor  # (B, l, N): which words each place shows
    inputs: torch.Tensor  # (B, 1, T)
    targets: torch.Tensor  # (B, 1, T)


def read_sentences(data: Path, files: Sequence[str]) -> list[list[str]]:
    """Read the lines of each file, gzipped or plain. Raises DatasetUnusable."""
    found = []
    for name in files:
        path = data / "text" / name
        try:
            text = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
            found.append(text.decode().splitlines())
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DatasetUnusable(f"{path} is not a file of captions: {error}") from error
    return found


class Imagination:
    """Draws sentences and imagines what is seen in their images."""

    def __init__(
        self,
        sentences: list[list[str]],
        vocabulary: Vocabulary,
        seen_as: Sequence[int],
        things: Sequence[int],
        words: int,
        recipe: TextRecipe,
        max_words: int,
    ) -> None:
        """`seen_as` maps tokens to visible words, or to `words` for none. `things` are the words that name a class.

        Raises DatasetUnusable.
        """
        self._recipe, self._max_words, self._words = recipe, max_words, words
        self._seen_as, self._things = list(seen_as), np.array(sorted(things))
        self._is_thing = np.isin(np.arange(words), self._things)
        # By length: the sentences of a batch are equally long, so nothing is computed for padding.
        self._by_length: list[dict[int, list[list[int]]]] = []
        for lines in sentences:
            lengths: dict[int, list[list[int]]] = defaultdict(list)
            for line in lines:
                tokens = vocabulary.encode(line)
                if 3 < len(tokens) < max_words and tokens.count(UNKNOWN) <= 1:
                    lengths[len(tokens)].append(tokens)
            self._by_length.append(dict(lengths))
        self._lengths = [
            np.array([length for length, lines in lengths.items() for _ in lines]) for lengths in self._by_length
        ]
        if not all(map(len, self._lengths)):
            raise DatasetUnusable("a file of captions contains none that can be learnt from")

    def batch(self, seed: Sequence[int]) -> TextBatch:
        """Draw a batch. It depends on `seed` alone."""
        chance = np.random.default_rng(list(seed))
        first = self._lengths[chance.integers(len(self._lengths))]
        length = int(first[chance.integers(len(first))])
        captions = [self._draw(chance, length) for _ in range(self._recipe.sentences_per_step)]
        words = np.stack([self._imagine(chance, tokens) for tokens in captions])
        return TextBatch(torch.from_numpy(words), *pad_captions([[tokens] for tokens in captions], self._max_words))

    def _draw(self, chance: np.random.Generator, length: int) -> list[int]:
        lengths = self._by_length[chance.integers(len(self._by_length))]
        lines = lengths.get(length) or lengths[min(lengths, key=lambda other: abs(other - length))]
        return lines[chance.integers(len(lines))]

    def _imagine(self, chance: np.random.Generator, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Make places (l, N) that show the sentence's words."""
        recipe = self._recipe
        places = np.zeros((_PLACES, self._words), np.float32)
        named = dict.fromkeys(self._seen_as[token] for token in tokens if self._seen_as[token] < self._words)
        seen = [
            word for word in named if chance.random() < (recipe.found if self._is_thing[word] else recipe.found_else)
        ]
        used = 0
        for word in seen:
            for _ in range(1 + (chance.random() < 0.4)):
                if used < _PLACES - _STRAYS:
                    places[used, word] = chance.uniform(0.25, 1)
                    if len(seen) > 1 and chance.random() < 0.6:  # the place also shows another word of the sentence
                        other = seen[chance.integers(len(seen))]
                        places[used, other] = max(places[used, other], chance.uniform(0.1, 0.6))
                    if len(self._things) and chance.random() < 0.5:  # the detector mistakes it for another thing
                        other = self._things[chance.integers(len(self._things))]
                        places[used, other] = max(places[used, other], chance.uniform(0.03, 0.3))
                    used += 1
        for _ in range(_STRAYS):
            if chance.random() < 0.7:
                places[used, chance.integers(self._words)] = chance.uniform(0.05, 0.5)
                used += 1
        return places[chance.permutation(_PLACES)]
