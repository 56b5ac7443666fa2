"""Sentences as characters. In: sentences; out: token ids, and back.

A captioner that writes characters writes words all the same: what stands between two spaces. What makes characters a
sentence is in constraints.py. It must not know of tensors or images.
"""

import string
from collections.abc import Iterable, Sequence
from typing import Literal, Self

from model.text.vocabulary import SPECIALS, Span, Vocabulary

# The first characters of every alphabet: what stands between two letters or digits only.
MARKS = " '-"
FIRST_MARK = SPACE = len(SPECIALS)
LAST_MARK = SPACE + len(MARKS) - 1
_ALPHABET = MARKS + string.digits + string.ascii_lowercase

# Of the 324,000 words of Flickr8k's `train` seven are longer, all of them chains with hyphens.
LONGEST_WORD = 16


class Characters(Vocabulary):
    """A vocabulary of characters."""

    def __init__(self, characters: Sequence[str] = _ALPHABET) -> None:
        super().__init__(characters)
        if tuple(characters[: len(MARKS)]) != tuple(MARKS) or any(len(character) != 1 for character in characters):
            raise ValueError("an alphabet is single characters, of which space, apostrophe and hyphen come first")

    @classmethod
    def from_sentences(cls, sentences: Iterable[str], min_count: int) -> Self:  # noqa: ARG003
        """The same for all sentences: letters, digits, space, apostrophe and hyphen."""
        return cls()

    def spans(self, tokens: Sequence[int]) -> list[Span]:
        """See Vocabulary. The space after a word belongs to what decides it."""
        spans, start = [], 0
        for place, token in enumerate([*tokens, SPACE]):
            if token == SPACE:
                if place > start:
                    spans.append(Span(start, place, min(place + 1, len(tokens))))
                start = place + 1
        return spans

    def completes(self, token: int) -> bool:
        """See Vocabulary."""
        return token == SPACE

    def most_tokens(self, words: int) -> int:
        """See Vocabulary. The first may be the space after a prefix."""
        return 1 + words * (LONGEST_WORD + 1)

    def _split(self, words: list[str]) -> Iterable[str]:
        return " ".join(words)


TokenName = Literal["word", "character"]
VOCABULARIES: dict[TokenName, type[Vocabulary]] = {"word": Vocabulary, "character": Characters}
