"""How likely a caption is to be right, in [0, 1]. In: a caption as the captioner wrote it; out: a number.

A logistic function of what the captioner itself thinks of the sentence, with coefficients that were fitted on pictures
whose captions people wrote (model/evaluation/calibration.py, which also says what "right" means). It must not know of
pictures, references or how it was fitted.
"""

import math

from pydantic import BaseModel, ConfigDict, Field

from model.decoding.caption import Caption


class ConfidenceConfig(BaseModel):
    """Coefficients of the three features, and the threshold from which on a caption counts as confident."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    bias: float
    mean_logprob: float
    lowest_logprob: float
    words: float
    threshold: float = Field(ge=0, le=1)


def features(caption: Caption) -> tuple[float, float, float]:
    """Mean log-probability of a decision (every word, and to end), that of the least likely word, number of words."""
    lowest = min((word.logprob for word in caption.words), default=0.0)
    return caption.logprob / (len(caption.words) + 1), lowest, float(len(caption.words))


def confidence(caption: Caption, config: ConfidenceConfig) -> float:
    """The probability that `caption` is right."""
    mean, lowest, words = features(caption)
    logit = config.bias + config.mean_logprob * mean + config.lowest_logprob * lowest + config.words * words
    # Of the two forms of the logistic function, the one whose exponential cannot overflow.
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
