"""CIDEr-D (Vedantam, Zitnick and Parikh, 2015) over integer tokens: a reward for sampled captions, quickly.

In: token ids of captions and of their references; out: numbers. The same numbers as pycocoevalcap, which computes the
references' vectors anew for every caption; here they are prepared once an image. It must not know of words or models.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ORDERS = 4  # unigrams to 4-grams
_SIGMA = 6.0  # of the penalty for another length than the reference's
_SCALE = 10.0


@dataclass(frozen=True, slots=True)
class References:
    """All that the score needs to know of the references of an image."""

    counts: list[dict[int, tuple[int, ...]]]  # by order - 1 and n-gram: how often it is in each reference
    norms: list[list[float]]  # by order - 1 and reference
    lengths: list[int]


class CiderD:
    """The score, with document frequencies (in how many images' references an n-gram occurs) from a whole data set."""

    def __init__(self, references: Iterable[Sequence[Sequence[int]]], token_count: int) -> None:
        """`references` are token ids below `token_count`, by image."""
        self._base = token_count + 1
        frequencies: Counter[int] = Counter()
        images = 0
        for images, captions in enumerate(references, start=1):  # noqa: B007
            frequencies.update({gram for caption in captions for grams in self._grams(caption) for gram in grams})
        self._rarest = math.log(images)
        # Squared, since every product of two weights holds the square.
        self._idf = {gram: (self._rarest - math.log(count)) ** 2 for gram, count in frequencies.items()}

    def prepare(self, references: Sequence[Sequence[int]]) -> References:
        """What `score` takes, from the references of one image."""
        grams = [self._grams(reference) for reference in references]
        counts, norms = [], []
        for order in range(ORDERS):
            of_order = [Counter(gram[order]) for gram in grams]
            counts.append({gram: tuple(c[gram] for c in of_order) for gram in set().union(*of_order)})
            norms.append([math.sqrt(sum(n * n * self._weight(gram) for gram, n in c.items())) for c in of_order])
        return References(counts, norms, [len(reference) for reference in references])

    def score(self, caption: Sequence[int], references: References) -> float:
        """CIDEr-D of one caption, as pycocoevalcap scales it: 10 for all that could be wished for."""
        length = len(caption)
        # pycocoevalcap counts bigrams for the length, so an empty caption is as long as one of a single word.
        deltas = [max(length, 1) - max(other, 1) for other in references.lengths]
        penalties = [math.exp(-delta * delta / (2 * _SIGMA**2)) for delta in deltas]
        total = 0.0
        for grams, known, norms in zip(self._grams(caption), references.counts, references.norms, strict=True):
            square = 0.0
            products = [0.0] * len(norms)
            for gram, n in Counter(grams).items():
                weight = self._weight(gram)
                square += n * n * weight
                for place, m in enumerate(known.get(gram, ())):
                    if m:
                        products[place] += min(n, m) * m * weight
            if square:
                norm = math.sqrt(square)
                for product, other, penalty in zip(products, norms, penalties, strict=True):
                    if product:
                        total += penalty * product / (norm * other)
        return _SCALE * total / (ORDERS * len(references.lengths))

    def _weight(self, gram: int) -> float:
        """The square of an n-gram's inverse document frequency."""
        weight = self._idf.get(gram)
        return self._rarest**2 if weight is None else weight

    def _grams(self, caption: Sequence[int]) -> list[list[int]]:
        """The n-grams of each order, each as one number: integers are hashed faster than tuples and take less room."""
        base = self._base
        grams = [[token + 1 for token in caption]]
        for order in range(1, ORDERS):
            grams.append([gram * base + token + 1 for gram, token in zip(grams[-1], caption[order:], strict=False)])
        return grams
