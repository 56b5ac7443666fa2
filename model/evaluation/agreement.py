"""How well the score of a given caption agrees with people. In: a captioner and judgements; out: Kendall's tau.

A score is made of the log-probability of the sentence given the picture in several ways: some of what the sentence
would get without the picture is subtracted (all of it: pointwise mutual information), and the rest is divided by a
power of the number of decisions. Without the picture means one of two: a grey picture, or the mean probability over
other pictures. It must not know which way is best.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.stats import kendalltau
from tqdm import tqdm

from model.captioner import Captioner
from model.evaluation.captions import prepare, score_captions
from model.evaluation.judgements import Judgement
from model.training.dataset import Sample
from model.vocabulary import split_words

_SENTENCES = 64
_GREY = (128, 128, 128)

Numbers = npt.NDArray[np.float64]


class Baseline:
    """What sentences would get without the picture, from a grey one and from pictures that are somebody else's."""

    def __init__(self, captioner: Captioner, others: Sequence[Sample]) -> None:
        self._captioner = captioner
        side = captioner.config.image_size
        grey = captioner.prepare(Image.new("RGB", (side, side), _GREY))
        self._memory = captioner.encode(torch.cat([grey.unsqueeze(0), prepare(captioner, others)]))
        self._known: dict[str, tuple[float, float]] = {}

    def of(self, sentences: Sequence[str]) -> tuple[Numbers, Numbers]:
        """Log-probabilities with the grey picture, and the logarithms of the mean probabilities over the others."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._known]
        images = self._memory.images
        at_once = max(1, _SENTENCES // images)
        for start in tqdm(range(0, len(new), at_once), desc="without the picture", unit="batch"):
            batch = new[start : start + at_once]
            memory = self._memory.select([*range(images)] * len(batch))
            told = [sentence for sentence in batch for _ in range(images)]
            scored = np.array([caption.logprob for caption in self._captioner.score(memory, told)])
            for sentence, (grey, *others) in zip(batch, scored.reshape(len(batch), images), strict=True):
                self._known[sentence] = (float(grey), float(np.logaddexp.reduce(others) - np.log(len(others))))
        grey, others = np.array([self._known[sentence] for sentence in sentences]).T
        return grey, others


def score_ways(
    captioner: Captioner, samples: Mapping[str, Sample], judgements: Sequence[Judgement], baseline: Baseline, title: str
) -> dict[str, Numbers]:
    """Every way to score, each with a number for each judgement."""
    by_image: dict[str, list[int]] = {}
    for place, judgement in enumerate(judgements):
        by_image.setdefault(judgement.image, []).append(place)
    told = [[judgements[place].caption for place in places] for places in by_image.values()]
    scored = score_captions(captioner, [samples[name] for name in by_image], told, title)
    logprobs = np.zeros(len(judgements))
    for places, captions in zip(by_image.values(), scored, strict=True):
        logprobs[places] = [caption.logprob for caption in captions]
    sentences = [judgement.caption for judgement in judgements]
    decisions = np.array([len(split_words(sentence)) + 1 for sentence in sentences])
    return ways(logprobs, decisions, *baseline.of(sentences))


def ways(logprobs: Numbers, decisions: Numbers, grey: Numbers, others: Numbers) -> dict[str, Numbers]:
    """name → scores: "minus others / n" is (log p(s|i) - log p(s)) / n, with n the words and the decision to end."""
    less = {
        "logprob": logprobs,
        "minus half grey": logprobs - 0.5 * grey,
        "minus grey": logprobs - grey,
        "minus half others": logprobs - 0.5 * others,
        "minus others": logprobs - others,
    }
    powers = {"": 0.0, " / sqrt n": 0.5, " / n": 1.0}
    return {f"{name}{suffix}": x / decisions**power for name, x in less.items() for suffix, power in powers.items()}


def kendall(scores: Numbers, judgements: Sequence[Judgement], variant: str) -> float:
    """Kendall's tau, variant "b" or "c", over every grade that somebody gave, as for Flickr8k in the literature.

    Hessel et al. (CLIPScore, 2021) use tau-c for the experts, each grade by itself, and tau-b for the crowd's shares.
    """
    spread = np.repeat(scores, [len(judgement.grades) for judgement in judgements])
    grades = [grade for judgement in judgements for grade in judgement.grades]
    return float(kendalltau(spread, grades, variant=variant).statistic)
