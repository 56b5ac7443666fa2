"""Tokens that are characters.

A word is what stands between two spaces. model/decoding/constraints.py makes generated characters form words.
"""

import string
from collections.abc import Iterable, Sequence
from typing import Literal, Self

from model.text.vocabulary import SPECIALS, Span, Vocabulary

# The first characters of every alphabet. They only stand between two letters or digits.
MARKS = " '-"
FIRST_MARK = SPACE = len(SPECIALS)
LAST_MARK = SPACE + len(MARKS) - 1
_ALPHABET = MARKS + string.digits + string.ascii_lowercase

# Of the 324,000 words in Flickr8k's `train`, seven are longer, all of them hyphenated.
LONGEST_WORD = 16


class Characters(Vocabulary):
    """A vocabulary of characters."""

    def __init__(self, characters: Sequence[str] = _ALPHABET) -> None:
        super().__init__(characters)
        if tuple(characters[: len(MARKS)]) != tuple(MARKS) or any(len(character) != 1 for character in characters):
            raise ValueError("an alphabet must be single characters that start with space, apostrophe and hyphen")

    @classmethod
    def from_sentences(cls, sentences: Iterable[str], min_count: int) -> Self:  # noqa: ARG003
        """Return the fixed alphabet: letters, digits, space, apostrophe and hyphen."""
        return cls()

    def spans(self, tokens: Sequence[int]) -> list[Span]:
        """See Vocabulary. The space after a word completes it."""
        spans, start = [], 0
        for index, token in enumerate([*tokens, SPACE]):
            if token == SPACE:
                if index > start:
                    spans.append(Span(start, index, min(index + 1, len(tokens))))
                start = index + 1
        return spans

    def completes(self, token: int) -> bool:
        """See Vocabulary."""
        return token == SPACE

    def max_tokens(self, words: int) -> int:
        """See Vocabulary. The first token may be the space after a prefix."""
        return 1 + words * (LONGEST_WORD + 1)

    def _split(self, words: list[str]) -> Iterable[str]:
        return " ".join(words)


TokenName = Literal["word", "character"]
VOCABULARIES: dict[TokenName, type[Vocabulary]] = {"word": Vocabulary, "character": Characters}
