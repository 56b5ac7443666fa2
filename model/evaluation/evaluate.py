"""Evaluate a captioner on whole data sets. Results are plain data.

The modules that compute the numbers explain them.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from model.decoding.caption import Caption
from model.decoding.confidence import ConfidenceConfig, confidence
from model.decoding.options import DecodingOptions
from model.evaluation import calibration, coco_dev
from model.evaluation.agreement import (
    CROWD,
    EXPERT,
    Baseline,
    kendall,
    load_judgements,
    own_or_strangers,
    score_ways,
)
from model.evaluation.captions import score_captions, write_captions
from model.evaluation.coco_dev import Photograph, load_named
from model.evaluation.coco_mentions import hallucination
from model.evaluation.deletion import deletion
from model.evaluation.grounding import grounding
from model.evaluation.scores import coco_scores, diversity
from model.runtime.captioner import Captioner
from model.training.cider import quick_ciders
from model.training.dataset import Sample, load_split

# The split for all choices: coefficients, thresholds, the way to score.
_CHOOSING = "val"
_COCO_VAL = "coco val"
# The pictures of `val` over which a sentence's probability without its own picture is averaged.
_OTHER_PICTURES = 15
# One in so many pictures of `val` serves to choose the way to score.
_CHOOSING_STEP = 2


class Evaluation:
    """All measurements of one captioner. Every split is captioned once. All methods raise DatasetUnusable."""

    def __init__(self, captioner: Captioner, data: Path, options: DecodingOptions) -> None:
        self._captioner, self._data, self._options = captioner, data, options
        self._samples: dict[str, Sequence[Sample]] = {}
        self._captions: dict[str, list[Caption]] = {}

    def require(self, split: str, *, attention: bool = False, honesty: bool = False) -> None:
        """Load everything that the measurements need, so that missing data fails before slow work."""
        self._load(split)
        if attention or honesty:
            self._load(coco_dev.NAME)
        if honesty:
            self._load(_CHOOSING)
            for file in (EXPERT, CROWD):
                load_judgements(self._data, file)

    def quality(self, split: str) -> dict[str, Any]:
        """Score the captions of `split`, which can be "coco-dev", against all references. Measure their diversity."""
        samples, captions = self._captioned(split)
        texts, references = _texts(samples, captions)
        return {
            "split": split,
            "images": len(samples),
            "references": max(len(sample.captions) for sample in samples),
            "strategy": self._options.strategy,
            "beam": self._options.beam_size,
            **coco_scores(texts, references),
            **diversity(texts.values()),
        }

    def attention(self) -> dict[str, Any]:
        """Measure whether attention falls on what words name, and whether words depend on it."""
        photographs, captions = [photograph for photograph, _ in self._boxed], [caption for _, caption in self._boxed]
        return {"grounding": self.grounding(), "deletion": deletion(self._captioner, photographs, captions)}

    def grounding(self) -> dict[str, dict[str, float]]:
        """Measure whether attention falls on what words name, in the captioner's captions and in people's."""
        boxed = self._boxed
        photographs = [photograph for photograph, _ in boxed]
        told = score_captions(
            self._captioner, photographs, [photograph.captions for photograph in photographs], "people's captions"
        )
        peoples = [(photo, caption) for photo, of_photo in zip(photographs, told, strict=True) for caption in of_photo]
        return {
            "own": grounding(boxed),
            "people": grounding(peoples),
            "own_largest": grounding(boxed, largest=True),
            "people_largest": grounding(peoples, largest=True),
        }

    def honesty(self) -> dict[str, Any]:
        """Measure hallucination, the calibration of confidence, and the agreement of scores with people."""
        named = hallucination((photograph, caption.text) for photograph, caption in self._coco_dev)
        return {"hallucination": named, **self._confidence(), "agreement": self._agreement()}

    def _confidence(self) -> dict[str, Any]:
        """Fit confidence on every second picture of `val`, and check it on the others and on coco-dev.

        If the data folder has COCO, its `val` is used, because it is in the default style. Flickr8k's is checked, too.
        """
        fitted = _COCO_VAL if (self._data / "coco").is_dir() else _CHOOSING
        samples, captions = self._captioned(fitted)
        config = calibration.fit(captions[::2], _right(samples[::2], captions[::2]))
        checked = {fitted: _calibration(samples[1::2], captions[1::2], config)}
        for other in (_CHOOSING, coco_dev.NAME):
            if other != fitted:
                checked[other] = _calibration(*self._captioned(other), config)
        return {
            "confidence": {name: report["summary"] for name, report in checked.items()},
            "coverage": {
                f"{name} {share}": row for name, report in checked.items() for share, row in report["coverage"].items()
            },
            "confidence_config": config.model_dump(),
            "reliability": {
                f"{name}, {when}": report[when] for name, report in checked.items() for when in ("before", "after")
            },
        }

    def _agreement(self) -> dict[str, Any]:
        """Compute Kendall's tau for every way to score. The way to use is chosen on `val`, without people's judgements.

        People judged captions of pictures of `test` only. These are scored as given, and decide nothing.
        """
        choosing = self._load(_CHOOSING)
        baseline = Baseline(self._captioner, choosing[1 :: max(2, len(choosing) // _OTHER_PICTURES)][:_OTHER_PICTURES])
        samples = {sample.name: sample for sample in choosing}
        judged = {f"{_CHOOSING} own": own_or_strangers(choosing[::_CHOOSING_STEP])}
        for file, title in ((EXPERT, "expert"), (CROWD, "crowd")):
            for split, judgements in load_judgements(self._data, file).items():
                samples |= {sample.name: sample for sample in self._load(split)}
                judged[f"{split} {title}"] = judgements
        table: dict[str, dict[str, float]] = {}
        for title, judgements in judged.items():
            for way, scores in score_ways(self._captioner, samples, judgements, baseline, title).items():
                row = table.setdefault(way, {})
                row |= {f"{title} {tau}": kendall(scores, judgements, tau[-1]) for tau in ("tau_b", "tau_c")}
        chosen = max(table, key=lambda way: table[way][f"{_CHOOSING} own tau_b"])
        return {"chosen": chosen, "judgements": {title: len(judged[title]) for title in judged}, "tau": table}

    @cached_property
    def _coco_dev(self) -> list[tuple[Photograph, Caption]]:
        samples, captions = self._captioned(coco_dev.NAME)
        return [(s, c) for s, c in zip(samples, captions, strict=True) if isinstance(s, Photograph)]

    @property
    def _boxed(self) -> list[tuple[Photograph, Caption]]:
        return [(photograph, caption) for photograph, caption in self._coco_dev if photograph.boxes is not None]

    def _captioned(self, split: str) -> tuple[Sequence[Sample], list[Caption]]:
        samples = self._load(split)
        if split not in self._captions:
            self._captions[split] = write_captions(self._captioner, samples, self._options, split)
        return samples, self._captions[split]

    def _load(self, split: str) -> Sequence[Sample]:
        if split not in self._samples:
            coco = split == _COCO_VAL
            self._samples[split] = load_split(self._data / "coco", "val") if coco else load_named(self._data, split)
        return self._samples[split]


def _texts(samples: Sequence[Sample], captions: Sequence[Caption]) -> tuple[dict[str, str], dict[str, list[str]]]:
    texts = {sample.name: caption.text for sample, caption in zip(samples, captions, strict=True)}
    return texts, {sample.name: sample.captions for sample in samples}


def _right(samples: Sequence[Sample], captions: Sequence[Caption]) -> calibration.Truths:
    return calibration.as_good_as_people(*_texts(samples, captions))


def _calibration(samples: Sequence[Sample], captions: Sequence[Caption], config: ConfidenceConfig) -> dict[str, Any]:
    right, ciders = _right(samples, captions), quick_ciders(*_texts(samples, captions))
    before = np.array([calibration.naive_confidence(caption) for caption in captions])
    after = np.array([confidence(caption, config) for caption in captions])
    curves = {"before": calibration.reliability(before, right), "after": calibration.reliability(after, right)}
    return {
        "summary": {
            "captions": len(captions),
            "right": float(right.mean()),
            "mean_confidence": float(after.mean()),
            "ece_before": calibration.calibration_error(curves["before"]),
            "ece_after": calibration.calibration_error(curves["after"]),
            **calibration.threshold_report(after, right, ciders, config.threshold),
        },
        "coverage": calibration.coverage_table(after, right, ciders),
        **{when: [asdict(bin_) for bin_ in curve] for when, curve in curves.items()},
    }
