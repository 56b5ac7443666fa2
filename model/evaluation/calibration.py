"""Calibrated confidence: fit it on some captions, and check it on others.

A caption counts as right when it is as good as a person's: its CIDEr-D with the references (the mean over leaving out
each of them in turn) is at least that of the median person who wrote them, scored against the others in the same way.
By this measure three of five people are right. It measures agreement, not truth: a true caption about something that
no reference mentions counts as wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from model.decoding.caption import Caption
from model.decoding.confidence import ConfidenceConfig, confidence, features
from model.training.cider import quick_ciders

# The number of references of each image. Another number would be another measure.
_REFERENCES = 5
# The share of the captions it was fitted on that are below the threshold.
UNSURE = 0.2
BINS = 10
# A little weight decay keeps the fit finite if all captions are right, or all are wrong.
_DECAY = 1e-3

Numbers = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]


def as_good_as_people(captions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> Truths:
    """Decide for each image, in the order of `captions`. Raises ValueError if an image has fewer than 2 references."""
    people = min(_REFERENCES, *(len(references[name]) for name in captions))
    if people < 2:
        raise ValueError("there must be two references or more for each image")
    ours, theirs = [], []
    for left_out in range(people):
        others = {name: _without(references[name][:people], left_out) for name in captions}
        ours.append(quick_ciders(captions, others))
        theirs.append(quick_ciders({name: references[name][left_out] for name in captions}, others))
    right: Truths = np.mean(ours, axis=0) >= np.median(theirs, axis=0)
    return right


def _without(references: Sequence[str], place: int) -> list[str]:
    return [*references[:place], *references[place + 1 :]]


@dataclass(frozen=True, slots=True)
class Bin:
    """Captions of similar confidence: their number, mean confidence, and the share that is right."""

    captions: int
    confidence: float
    right: float


def fit(captions: Sequence[Caption], right: Truths) -> ConfidenceConfig:
    """Fit a logistic regression (Platt, 1999) of `right` on the features of each caption."""
    raw = np.array([features(caption) for caption in captions])  # (N, 3)
    mean, deviation = raw.mean(axis=0), raw.std(axis=0)
    deviation[deviation == 0] = 1
    inputs = np.column_stack([np.ones(len(raw)), (raw - mean) / deviation])  # (N, 4)
    signs = np.where(right, 1.0, -1.0)

    def loss(weights: Numbers) -> tuple[float, Numbers]:
        margins = signs * (inputs @ weights)
        gradient = -(inputs * (signs / (1 + np.exp(np.clip(margins, -500, 500))))[:, None]).mean(axis=0)
        return float(np.logaddexp(0, -margins).mean() + _DECAY * weights @ weights), gradient + 2 * _DECAY * weights

    bias, *slopes = minimize(loss, np.zeros(4), jac=True).x
    slopes = slopes / deviation
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
    """Return the uncalibrated confidence: the geometric mean of the probabilities of the words and the end."""
    return float(np.exp(features(caption)[0]))


def reliability(confidences: Numbers, right: Truths, bins: int = BINS) -> list[Bin]:
    """Compute the reliability curve: bins of equal width, without empty ones."""
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    groups = [places == place for place in range(bins)]
    return [
        Bin(int(group.sum()), float(confidences[group].mean()), float(right[group].mean()))
        for group in groups
        if group.any()
    ]


def calibration_error(curve: Sequence[Bin]) -> float:
    """Compute the expected calibration error (Guo et al., 2017): the mean gap between confidence and share right."""
    total = sum(bin_.captions for bin_ in curve)
    return sum(bin_.captions * abs(bin_.confidence - bin_.right) for bin_ in curve) / total


def coverage_table(confidences: Numbers, right: Truths, ciders: Numbers) -> dict[str, dict[str, float]]:
    """Compute the share right and the mean CIDEr of the most confident captions, for several shares of all."""
    order = np.argsort(-confidences, kind="stable")
    kept = {share: order[: max(1, round(share * len(order)))] for share in (1.0, 0.8, 0.6, 0.4, 0.2)}
    return {
        f"{share:.1f}": {"right": float(right[chosen].mean()), "cider": float(ciders[chosen].mean())}
        for share, chosen in kept.items()
    }


def threshold_report(confidences: Numbers, right: Truths, ciders: Numbers, threshold: float) -> dict[str, float]:
    """Compute how many captions reach the threshold, and how good captions above and below it are."""
    confident = confidences >= threshold
    report = {"coverage": float(confident.mean())}
    for name, group in (("confident", confident), ("not_confident", ~confident)):
        if group.any():
            report[f"right_{name}"] = float(right[group].mean())
            report[f"cider_{name}"] = float(ciders[group].mean())
    return report
