"""Consensus reranking: the sentence that agrees best with the others comes first (Devlin et al., 2015, section 3).

The most probable sentence may be an outlier: of twenty beams, nineteen may be about a dog and the best about a cow. The
sentence with the best mean agreement minimises the expected loss (minimum Bayes risk: Kumar and Byrne, 2004).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from model.decoding.detokenize import Hypothesis

_ORDERS = 4  # n-grams of one to four tokens
_SIGMA = 6.0  # of the length penalty

Numbers = npt.NDArray[np.float64]


def rank_by_consensus(hypotheses: Sequence[Hypothesis], rarity: Numbers) -> list[Hypothesis]:
    """Return `hypotheses` by their mean agreement with all of them, best first. Ties keep their order.

    `rarity` (V,) is the weight of each token.
    """
    scores = agreement([hypothesis.tokens for hypothesis in hypotheses], rarity).mean(axis=1)
    return [hypotheses[index] for index in np.argsort(-scores, kind="stable")]


def agreement(sentences: Sequence[Sequence[int]], rarity: Numbers) -> Numbers:
    """Return the agreement of each pair of sentences in [0, 1], (N, N): rows as captions, columns as references.

    The measure is CIDEr-D (Vedantam, Zitnick and Parikh, 2015, section 4), except that the weight of an n-gram is the
    sum of the rarity of its tokens instead of its inverse document frequency.
    """
    lengths = np.array([len(sentence) for sentence in sentences])
    similarity = np.zeros((len(sentences), len(sentences)))
    for order in range(1, _ORDERS + 1):
        weights = _weights(sentences, order, rarity)  # (N, runs)
        common = (np.minimum(weights[:, None], weights) * weights).sum(axis=2)
        norms = np.linalg.norm(weights, axis=1)
        products = np.outer(norms, norms)
        similarity += np.divide(common, products, out=np.zeros_like(common), where=products > 0)
    penalty = np.exp(-np.square(np.subtract.outer(lengths, lengths)) / (2 * _SIGMA**2))
    scores: Numbers = similarity * penalty / _ORDERS
    return scores


def _weights(sentences: Sequence[Sequence[int]], order: int, rarity: Numbers) -> Numbers:
    """Return the weight of every n-gram of `order` tokens in each sentence: (N, n-grams)."""
    columns: dict[tuple[int, ...], int] = {}
    rows = [[columns.setdefault(ngram, len(columns)) for ngram in _ngrams(sentence, order)] for sentence in sentences]
    counts = np.zeros((len(sentences), len(columns)))
    for sentence, row in zip(counts, rows, strict=True):
        np.add.at(sentence, row, 1.0)
    if not columns:
        return counts
    weights: Numbers = counts * rarity[np.array(list(columns))].sum(axis=1)
    return weights


def _ngrams(sentence: Sequence[int], order: int) -> Iterable[tuple[int, ...]]:
    return zip(*(sentence[start:] for start in range(order)), strict=False)
