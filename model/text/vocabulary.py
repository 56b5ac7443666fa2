"""Tokens and their ids.

A token is a word or, in characters.py, a character. The vocabulary splits sentences into tokens and joins tokens to
words, so decoding need not know which.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

PAD, START, END, UNKNOWN = range(4)
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")

# A word is letters or digits with inner apostrophes and hyphens: "man's", "t-shirt". Punctuation is dropped, as in
# the metrics.
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def style_token(style: str) -> str:
    """Return the token that starts a sentence in the style of the data set named `style`, in place of <start>."""
    return f"<{style}>"


def split_words(sentence: str) -> list[str]:
    """Return the words of `sentence`, in lower case and without punctuation."""
    return _WORD.findall(sentence.lower().replace("’", "'"))


class Span(NamedTuple):
    """The position of a word in a sequence of tokens: [start, end) spell it, and [start, after) decide it."""

    start: int
    end: int
    after: int


class Vocabulary:
    """A two-way map between tokens and ids. The first ids are <pad>, <start>, <end> and <unk>."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words: tuple[str, ...] = (*SPECIALS, *words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("a vocabulary must not contain a word twice")

    @classmethod
    def from_sentences(cls, sentences: Iterable[str], min_count: int) -> Self:
        """Build a vocabulary of all words that occur at least `min_count` times, the most frequent first."""
        counts = Counter(word for sentence in sentences for word in split_words(sentence))
        frequent = [(-count, word) for word, count in counts.items() if count >= min_count]
        return cls([word for _, word in sorted(frequent)])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: str, max_words: int | None = None) -> list[int]:
        """Return the token ids of `sentence`, or of its first `max_words` words, without <start> and <end>.

        Unknown tokens become <unk>.
        """
        return [self._ids.get(token, UNKNOWN) for token in self._split(split_words(sentence)[:max_words])]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the sentence of `tokens`, which exclude <start> and <end>."""
        return " ".join(self.spell(tokens[span.start : span.end]) for span in self.spans(tokens))

    def spans(self, tokens: Sequence[int]) -> list[Span]:
        """Return the words of a sentence as spans of `tokens`, which exclude <start> and <end>."""
        return [Span(index, index + 1, index + 1) for index in range(len(tokens))]

    def spell(self, tokens: Sequence[int]) -> str:
        """Return the word spelt by `tokens`, those of one span from its start to its end."""
        return "".join(self.words[token] for token in tokens)

    def completes(self, token: int) -> bool:
        """Return whether `token` completes the word before or at it. <end> always completes a word."""
        return token != END

    def max_tokens(self, words: int) -> int:
        """Return the maximal number of tokens in `words` words."""
        return words

    def token(self, word: str) -> int | None:
        """Return the id of `word` in lower case, or None if it is unknown."""
        return self._ids.get(word)

    def word(self, token: int) -> str:
        """Return the text of the token with the id `token`."""
        return self.words[token]

    @property
    def styles(self) -> tuple[str, ...]:
        """The names of the styles that have a token."""
        return tuple(word[1:-1] for word in self.words[len(SPECIALS) :] if word.startswith("<"))

    def save(self, path: Path) -> None:
        """Write the tokens, without the special ones, as a JSON list."""
        path.write_text(json.dumps(self.words[len(SPECIALS) :], indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises ValueError for anything else."""
        words = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{path.name} is not a list of words")
        return cls(words)

    def _split(self, words: list[str]) -> Iterable[str]:
        """Split `words` into tokens, as text."""
        return words
