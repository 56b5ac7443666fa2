"""Words and their numbers. In: sentences; out: token ids, and back. It must not know of tensors or images."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

PAD, START, END, UNKNOWN = range(4)
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")

# A word is letters or digits, with inner apostrophes and hyphens: "man's", "t-shirt". Punctuation is dropped, as the
# scorers drop it.
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def split_words(sentence: str) -> list[str]:
    """The words of `sentence`, in lower case and without punctuation."""
    return _WORD.findall(sentence.lower().replace("’", "'"))


class Vocabulary:
    """A two-way map between words and ids; the first ids are <pad>, <start>, <end> and <unk>."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words: tuple[str, ...] = (*SPECIALS, *words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("a vocabulary may not hold a word twice")

    @classmethod
    def from_sentences(cls, sentences: Iterable[str], min_count: int) -> "Vocabulary":
        """Every word seen `min_count` times or more, the most frequent first."""
        counts = Counter(word for sentence in sentences for word in split_words(sentence))
        kept = [(-count, word) for word, count in counts.items() if count >= min_count]
        return cls([word for _, word in sorted(kept)])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: str) -> list[int]:
        """Token ids of the words of `sentence`, without <start> and <end>; words not known become <unk>."""
        return [self._ids.get(word, UNKNOWN) for word in split_words(sentence)]

    def token(self, word: str) -> int | None:
        """The id of `word` in lower case; None for a word that is not known."""
        return self._ids.get(word)

    def word(self, token: int) -> str:
        """The word with the id `token`."""
        return self.words[token]

    def save(self, path: Path) -> None:
        """Write the words, without the special ones, as a JSON list."""
        path.write_text(json.dumps(self.words[len(SPECIALS) :], indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote. Raises ValueError for anything else."""
        words = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{path.name} is not a list of words")
        return cls(words)
