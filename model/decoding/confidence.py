"""The confidence of a caption: the probability in [0, 1] that it is right.

A logistic function of the caption's log-probabilities and length. model/evaluation/calibration.py fits its coefficients
on pictures with human captions and defines "right".
"""

import math

from pydantic import BaseModel, ConfigDict, Field

from model.decoding.caption import Caption


class ConfidenceConfig(BaseModel):
    """Coefficients of the three features, and the threshold of a confident caption."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    bias: float
    mean_logprob: float
    lowest_logprob: float
    words: float
    threshold: float = Field(ge=0, le=1)


def features(caption: Caption) -> tuple[float, float, float]:
    """Return the mean log-probability of a decision (word or end), the lowest of a word, and the number of words."""
    lowest = min((word.logprob for word in caption.words), default=0.0)
    return caption.logprob / (len(caption.words) + 1), lowest, float(len(caption.words))


def confidence(caption: Caption, config: ConfidenceConfig) -> float:
    """Return the probability that `caption` is right."""
    mean, lowest, words = features(caption)
    logit = config.bias + config.mean_logprob * mean + config.lowest_logprob * lowest + config.words * words
    # Two forms of the logistic function: the chosen one cannot overflow.
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
