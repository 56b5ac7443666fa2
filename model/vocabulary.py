"""Tokens and their numbers. In: sentences; out: token ids, and back. It must not know of tensors or images.

A token is a word or, in model/characters.py, a character. Whoever decodes need not know which: sentences are split into
tokens here, and tokens are put together to words here.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

PAD, START, END, UNKNOWN = range(4)
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")

# A word is letters or digits, with inner apostrophes and hyphens: "man's", "t-shirt". Punctuation is dropped, as the
# scorers drop it.
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def style_token(style: str) -> str:
    """What a sentence begins with that is to be written as those who captioned the data set `style` would."""
    return f"<{style}>"


def split_words(sentence: str) -> list[str]:
    """The words of `sentence`, in lower case and without punctuation."""
    return _WORD.findall(sentence.lower().replace("’", "'"))


class Span(NamedTuple):
    """Where a word is in a sentence of tokens: [start, end) spell it; what decides that it is over ends at `after`."""

    start: int
    end: int
    after: int


class Vocabulary:
    """A two-way map between words and ids; the first ids are <pad>, <start>, <end> and <unk>."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words: tuple[str, ...] = (*SPECIALS, *words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("a vocabulary may not hold a word twice")

    @classmethod
    def from_sentences(cls, sentences: Iterable[str], min_count: int) -> Self:
        """Every word seen `min_count` times or more, the most frequent first."""
        counts = Counter(word for sentence in sentences for word in split_words(sentence))
        kept = [(-count, word) for word, count in counts.items() if count >= min_count]
        return cls([word for _, word in sorted(kept)])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: str, max_words: int | None = None) -> list[int]:
        """Token ids of the words of `sentence`, or of the first `max_words`, without <start> and <end>.

        What is not known becomes <unk>.
        """
        return [self._ids.get(token, UNKNOWN) for token in self._split(split_words(sentence)[:max_words])]

    def decode(self, tokens: Sequence[int]) -> str:
        """The sentence that `tokens`, without <start> and <end>, stand for."""
        return " ".join(self.spell(tokens[span.start : span.end]) for span in self.spans(tokens))

    def spans(self, tokens: Sequence[int]) -> list[Span]:
        """The words of a sentence of `tokens`, without <start> and <end>."""
        return [Span(place, place + 1, place + 1) for place in range(len(tokens))]

    def spell(self, tokens: Sequence[int]) -> str:
        """The word that `tokens`, those of one span from its start to its end, stand for."""
        return "".join(self.words[token] for token in tokens)

    def completes(self, token: int) -> bool:
        """Whether a word is over with `token`. With <end> it is over too."""
        return token != END

    def most_tokens(self, words: int) -> int:
        """How many tokens `words` words may take."""
        return words

    def token(self, word: str) -> int | None:
        """The id of `word` in lower case; None for a word that is not known."""
        return self._ids.get(word)

    def word(self, token: int) -> str:
        """The token with the id `token`, as text."""
        return self.words[token]

    def save(self, path: Path) -> None:
        """Write the words, without the special ones, as a JSON list."""
        path.write_text(json.dumps(self.words[len(SPECIALS) :], indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises ValueError for anything else."""
        words = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{path.name} is not a list of words")
        return cls(words)

    def _split(self, words: list[str]) -> Iterable[str]:
        """The tokens of `words`, as text."""
        return words
