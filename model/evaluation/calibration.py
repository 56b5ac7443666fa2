"""A calibrated confidence: fitted on some captions, checked on others. In: captions, and whether each is right; out:
coefficients, calibration errors and reliability curves. It must not know what "right" means (consensus.py says).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from model.caption import Caption
from model.confidence import ConfidenceConfig, confidence, features

# The least sure fifth of what it was fitted on is below the threshold.
UNSURE = 0.2
BINS = 10
# A little weight decay: a fit on captions that are all right, or all wrong, stays finite.
_DECAY = 1e-3

Numbers = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Bin:
    """Captions of similar confidence: how many, their mean confidence, and the share of them that is right."""

    captions: int
    confidence: float
    right: float


def fit(captions: Sequence[Caption], right: Truths) -> ConfidenceConfig:
    """Logistic regression (Platt, 1999) of `right` on what the captioner thinks of each sentence."""
    raw = np.array([features(caption) for caption in captions])  # (N, 3)
    mean, spread = raw.mean(axis=0), raw.std(axis=0)
    spread[spread == 0] = 1
    inputs = np.column_stack([np.ones(len(raw)), (raw - mean) / spread])  # (N, 4)
    signs = np.where(right, 1.0, -1.0)

    def loss(weights: Numbers) -> tuple[float, Numbers]:
        margins = signs * (inputs @ weights)
        gradient = -(inputs * (signs / (1 + np.exp(np.clip(margins, -500, 500))))[:, None]).mean(axis=0)
        return float(np.logaddexp(0, -margins).mean() + _DECAY * weights @ weights), gradient + 2 * _DECAY * weights

    bias, *slopes = minimize(loss, np.zeros(4), jac=True).x
    slopes = slopes / spread
    config = ConfidenceConfig(
        bias=float(bias - slopes @ mean),
        mean_logprob=float(slopes[0]),
        lowest_logprob=float(slopes[1]),
        words=float(slopes[2]),
        threshold=0.0,
    )
    threshold = float(np.quantile([confidence(caption, config) for caption in captions], UNSURE))
    return config.model_copy(update={"threshold": threshold})


def naive_confidence(caption: Caption) -> float:
    """What one would take for a confidence: the geometric mean of the probabilities of its words and its end."""
    return float(np.exp(features(caption)[0]))


def reliability(confidences: Numbers, right: Truths, bins: int = BINS) -> list[Bin]:
    """The reliability curve: bins of equal width that have captions in them."""
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    groups = [places == place for place in range(bins)]
    return [
        Bin(int(group.sum()), float(confidences[group].mean()), float(right[group].mean()))
        for group in groups
        if group.any()
    ]


def calibration_error(curve: Sequence[Bin]) -> float:
    """Expected calibration error (Guo et al., 2017): the mean gap between confidence and share right, by captions."""
    total = sum(bin_.captions for bin_ in curve)
    return sum(bin_.captions * abs(bin_.confidence - bin_.right) for bin_ in curve) / total


def coverage_table(confidences: Numbers, right: Truths, ciders: Numbers) -> dict[str, dict[str, float]]:
    """What is right, and the mean CIDEr, of the surest captions, by the share of all that they are."""
    order = np.argsort(-confidences, kind="stable")
    kept = {share: order[: max(1, round(share * len(order)))] for share in (1.0, 0.8, 0.6, 0.4, 0.2)}
    return {
        f"{share:.1f}": {"right": float(right[chosen].mean()), "cider": float(ciders[chosen].mean())}
        for share, chosen in kept.items()
    }


def threshold_report(confidences: Numbers, right: Truths, ciders: Numbers, threshold: float) -> dict[str, float]:
    """How many captions reach the threshold, and how good those are that do and that do not."""
    confident = confidences >= threshold
    report = {"coverage": float(confident.mean())}
    for name, group in (("confident", confident), ("not_confident", ~confident)):
        if group.any():
            report[f"right_{name}"] = float(right[group].mean())
            report[f"cider_{name}"] = float(ciders[group].mean())
    return report
