"""Agreement with people: does a captioner score given captions as people do? Measured by Kendall's tau.

The judgements are Flickr8k's expert annotations (three people's grades from 1 to 4) and CrowdFlower's (the share of
people who say that the caption fits), as Hodosh, Young and Hockenmaier (2013) published them.

A score is computed from the log-probability of the sentence given the picture in several ways. A share of the
log-probability without the picture is subtracted (all of it: pointwise mutual information), and the rest is divided by
a power of the number of decisions. "Without the picture" is either a grey picture, or the mean probability over other
pictures.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.stats import kendalltau
from tqdm import tqdm

from model.evaluation.captions import prepare, score_captions
from model.runtime.captioner import Captioner
from model.text.vocabulary import split_words
from model.training.dataset import DatasetUnusable, Sample

EXPERT, CROWD = "expert-annotations.txt", "crowdflower-annotations.txt"
_SENTENCES = 64
_GREY = (128, 128, 128)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judgement:
    """People's judgement of a caption, possibly of another image: one grade per person, or one share."""

    image: str
    caption: str
    grades: tuple[float, ...]


def load_judgements(data: Path, file: str) -> dict[str, list[Judgement]]:
    """Load the judgements of `file` by the split of the judged image. Raises DatasetUnusable.

    Captions that experts judged for their own image are left out, as in the literature (5,664 of 5,822 remain).
    """
    folder = data / "flickr8k" if (data / "flickr8k").is_dir() else data
    try:
        index = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
        found: dict[str, list[Judgement]] = {}
        for line in (folder / file).read_text(encoding="utf-8").splitlines():
            image, caption, *numbers = line.split("\t")
            source, _, place = caption.rpartition("#")
            if file == EXPERT and source == image:
                continue
            # An expert row has one grade per person. A crowd row has the share of yes, and the votes behind it.
            grades = tuple(map(float, numbers if file == EXPERT else numbers[:1]))
            text = index[source]["captions"][int(place)]
            found.setdefault(index[image]["split"], []).append(Judgement(image, text, grades))
    except FileNotFoundError as error:
        raise DatasetUnusable(f"no {error.filename}: --data must name the folder of Flickr8k") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DatasetUnusable(f"{folder / file} does not fit its captions.json: {error!r}") from error
    return found


def own_or_strangers(samples: Sequence[Sample], strangers: int = 4, seed: int = 0) -> list[Judgement]:
    """Make judgements without people: one of an image's own captions fits (1), random captions of others do not (0).

    They serve to choose a way to score without a look at people's judgements.
    """
    rng = random.Random(seed)
    judgements = []
    for place, sample in enumerate(samples):
        others = rng.sample([other for other in samples if other is not sample], min(strangers, len(samples) - 1))
        judgements.append(Judgement(sample.name, sample.captions[place % len(sample.captions)], (1.0,)))
        judgements += [Judgement(sample.name, rng.choice(other.captions), (0.0,)) for other in others]
    return judgements


class Baseline:
    """Log-probabilities of sentences without their picture: given a grey picture, and given other pictures."""

    def __init__(self, captioner: Captioner, others: Sequence[Sample]) -> None:
        self._captioner = captioner
        side = captioner.config.image_size
        grey = captioner.prepare(Image.new("RGB", (side, side), _GREY))
        self._memory = captioner.encode(torch.cat([grey.unsqueeze(0), prepare(captioner, others)]))
        self._known: dict[str, tuple[float, float]] = {}

    def of(self, sentences: Sequence[str]) -> tuple[Numbers, Numbers]:
        """Return log-probabilities given the grey picture, and log mean probabilities given the others."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._known]
        images = self._memory.images
        at_once = max(1, _SENTENCES // images)
        for start in tqdm(range(0, len(new), at_once), desc="without the picture", unit="batch"):
            batch = new[start : start + at_once]
            encoded = self._memory.select([*range(images)] * len(batch))
            told = [sentence for sentence in batch for _ in range(images)]
            scored = np.array([caption.logprob for caption in self._captioner.score(encoded, told)])
            for sentence, (grey, *others) in zip(batch, scored.reshape(len(batch), images), strict=True):
                self._known[sentence] = (float(grey), float(np.logaddexp.reduce(others) - np.log(len(others))))
        grey, others = np.array([self._known[sentence] for sentence in sentences]).T
        return grey, others


def score_ways(
    captioner: Captioner, samples: Mapping[str, Sample], judgements: Sequence[Judgement], baseline: Baseline, title: str
) -> dict[str, Numbers]:
    """Score every judged caption in every way: name of the way → one number per judgement."""
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
    """Compute name → scores. "minus others / n" is (log p(s|i) - log p(s)) / n; n counts words and the end."""
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
    """Compute Kendall's tau, variant "b" or "c", over all single grades, as the literature does for Flickr8k.

    Hessel et al. (CLIPScore, 2021) use tau-c for the experts' grades and tau-b for the crowd's shares.
    """
    repeated = np.repeat(scores, [len(judgement.grades) for judgement in judgements])
    grades = [grade for judgement in judgements for grade in judgement.grades]
    return float(kendalltau(repeated, grades, variant=variant).statistic)
