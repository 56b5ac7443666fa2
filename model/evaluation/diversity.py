"""How much a captioner has to say, and whether it ends its sentences. In: captions; out: numbers.

distinct-n is the share of all n-grams that are different (Li et al., 2016). A caption that ends in a word that no
sentence ends in, as in "a dog with a", is a known fault of captioners that were rewarded for CIDEr alone. It must not
know of references.
"""

from collections.abc import Collection, Iterable

from model.function_words import DANGLING
from model.vocabulary import split_words


def diversity(captions: Collection[str]) -> dict[str, float]:
    """Shares of captions that differ and that end badly; words used; share of 1-grams and 2-grams that differ."""
    sentences = [tuple(split_words(caption)) for caption in captions]
    return {
        "distinct_captions": len(set(sentences)) / len(sentences),
        "words_used": len({word for sentence in sentences for word in sentence}),
        "distinct_1": _distinct(sentences, 1),
        "distinct_2": _distinct(sentences, 2),
        "bad_endings": sum(ends_badly(sentence) for sentence in sentences) / len(sentences),
    }


def ends_badly(words: tuple[str, ...]) -> bool:
    """Whether there is no last word, or it is one that something must follow."""
    return not words or words[-1] in DANGLING


def _distinct(sentences: Iterable[tuple[str, ...]], n: int) -> float:
    ngrams = [sentence[i : i + n] for sentence in sentences for i in range(len(sentence) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0
