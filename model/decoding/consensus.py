"""Which of several sentences the others agree with most: consensus captions (Devlin et al., 2015).

What the likeliest sentence says need not be what most likely ones say: of twenty beams, nineteen may be about a dog
and the likeliest about a cow. The sentence that agrees best, on average, with all of them loses least should any of
them be what a person would have said (minimum Bayes risk: Kumar and Byrne, 2004). In: the hypotheses of an image; out:
the same, in another order. It must not know what the tokens mean, only how rare they are.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from model.decoding.detokenize import Hypothesis

_ORDERS = 4  # runs of one to four tokens
_SIGMA = 6.0  # of the penalty for another length

Numbers = npt.NDArray[np.float64]


def by_consensus(hypotheses: Sequence[Hypothesis], rarity: Numbers) -> list[Hypothesis]:
    """The sentence that agrees most with all of `hypotheses` first; among equals, the earlier one.

    `rarity` (V,) is what it counts that two sentences have a token in common.
    """
    agreed = agreement([hypothesis.tokens for hypothesis in hypotheses], rarity).mean(axis=1)
    return [hypotheses[place] for place in np.argsort(-agreed, kind="stable")]


def agreement(sentences: Sequence[Sequence[int]], rarity: Numbers) -> Numbers:
    """How much each sentence agrees with each, (N, N) in [0, 1]: of rows, as captions, with columns, as references.

    CIDEr-D (Vedantam, Zitnick and Parikh, 2015), but that a run of tokens is as rare as its tokens are together, in the
    place of how many pictures it was said of.
    """
    lengths = np.array([len(sentence) for sentence in sentences])
    found = np.zeros((len(sentences), len(sentences)))
    for order in range(1, _ORDERS + 1):
        weights = _weights(sentences, order, rarity)  # (N, runs)
        common = (np.minimum(weights[:, None], weights) * weights).sum(axis=2)
        norms = np.linalg.norm(weights, axis=1)
        products = np.outer(norms, norms)
        found += np.divide(common, products, out=np.zeros_like(common), where=products > 0)
    penalty = np.exp(-np.square(np.subtract.outer(lengths, lengths)) / (2 * _SIGMA**2))
    agreed: Numbers = found * penalty / _ORDERS
    return agreed


def _weights(sentences: Sequence[Sequence[int]], order: int, rarity: Numbers) -> Numbers:
    """What every run of `order` tokens counts in each sentence: (N, runs)."""
    places: dict[tuple[int, ...], int] = {}
    rows = [[places.setdefault(run, len(places)) for run in _runs(sentence, order)] for sentence in sentences]
    counts = np.zeros((len(sentences), len(places)))
    for sentence, row in zip(counts, rows, strict=True):
        np.add.at(sentence, row, 1.0)
    if not places:
        return counts
    weights: Numbers = counts * rarity[np.array(list(places))].sum(axis=1)
    return weights


def _runs(sentence: Sequence[int], order: int) -> Iterable[tuple[int, ...]]:
    return zip(*(sentence[start:] for start in range(order)), strict=False)
