"""CIDEr-D (Vedantam, Zitnick and Parikh, 2015), twice: for validation, and as a fast reward.

`quick_cider` scores the captions of a whole split with pycocoevalcap. `CiderD` gives the same numbers for single
captions of integer tokens: it prepares the vectors of the references once, where pycocoevalcap computes them for every
caption.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocoevalcap.cider.cider import Cider

from model.text.vocabulary import split_words

ORDERS = 4  # unigrams to 4-grams
_SIGMA = 6.0  # of the penalty for a length other than the reference's
_SCALE = 10.0


def quick_cider(captions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> float:
    """Compute CIDEr-D on our own tokens, to choose between epochs. Needs no Java; published scores differ a little."""
    return float(quick_ciders(captions, references).mean())


def quick_ciders(captions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> npt.NDArray[np.float64]:
    """Compute the quick CIDEr-D of each image, in the order of `captions`."""
    hypotheses = {name: [" ".join(split_words(caption))] for name, caption in captions.items()}
    truths = {name: [" ".join(split_words(text)) for text in references[name]] for name in captions}
    return np.asarray(Cider().compute_score(truths, hypotheses)[1], dtype=float)


@dataclass(frozen=True, slots=True)
class References:
    """The prepared references of one image."""

    counts: list[dict[int, tuple[int, ...]]]  # by order - 1 and n-gram: its count in each reference
    norms: list[list[float]]  # by order - 1 and reference
    lengths: list[int]


class CiderD:
    """CIDEr-D with the document frequencies of a data set: in how many images' references each n-gram occurs."""

    def __init__(self, references: Iterable[Sequence[Sequence[int]]], token_count: int) -> None:
        """`references` are token ids below `token_count`, by image."""
        self._base = token_count + 1
        frequencies: Counter[int] = Counter()
        images = 0
        for images, captions in enumerate(references, start=1):  # noqa: B007
            frequencies.update({gram for caption in captions for grams in self._grams(caption) for gram in grams})
        self._rarest = math.log(images)
        # Squared, because every product of two weights contains the square.
        self._idf = {gram: (self._rarest - math.log(count)) ** 2 for gram, count in frequencies.items()}

    def prepare(self, references: Sequence[Sequence[int]]) -> References:
        """Prepare the references of one image for `score`."""
        grams = [self._grams(reference) for reference in references]
        counts, norms = [], []
        for order in range(ORDERS):
            of_order = [Counter(gram[order]) for gram in grams]
            counts.append({gram: tuple(c[gram] for c in of_order) for gram in set().union(*of_order)})
            norms.append([math.sqrt(sum(n * n * self._weight(gram) for gram, n in c.items())) for c in of_order])
        return References(counts, norms, [len(reference) for reference in references])

    def score(self, caption: Sequence[int], references: References) -> float:
        """Score one caption, on pycocoevalcap's scale: the best possible score is 10."""
        length = len(caption)
        # pycocoevalcap measures the length in bigrams, so an empty caption is as long as one of a single word.
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
        """Return the square of an n-gram's inverse document frequency."""
        weight = self._idf.get(gram)
        return self._rarest**2 if weight is None else weight

    def _grams(self, caption: Sequence[int]) -> list[list[int]]:
        """List the n-grams of each order. Each is one integer, which is smaller and hashed faster than a tuple."""
        base = self._base
        grams = [[token + 1 for token in caption]]
        for order in range(1, ORDERS):
            grams.append([gram * base + token + 1 for gram, token in zip(grams[-1], caption[order:], strict=False)])
        return grams
