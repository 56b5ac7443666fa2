"""A captioner over a whole split of a data set. In: a captioner and a data folder; out: its scores."""

from pathlib import Path

import torch
from tqdm import tqdm

from model.captioner import Captioner
from model.evaluation.scores import coco_scores
from model.options import DecodingOptions
from model.training.dataset import load_split

_BATCH = 32


def evaluate(captioner: Captioner, data: Path, split: str, options: DecodingOptions) -> dict[str, str | int | float]:
    """Caption every image of `split` and score the captions against all references, as fractions."""
    samples = load_split(data, split)
    captions: dict[str, str] = {}
    for start in tqdm(range(0, len(samples), _BATCH), desc=f"captioning {split}", unit="batch"):
        batch = samples[start : start + _BATCH]
        pixels = torch.stack([captioner.prepare(sample.image()) for sample in batch])
        for sample, (best, *_) in zip(batch, captioner.caption_pixels(pixels, options), strict=True):
            captions[sample.name] = best.text
    scores = coco_scores(captions, {sample.name: sample.captions for sample in samples})
    return {
        "split": split,
        "images": len(samples),
        "references": max(len(sample.captions) for sample in samples),
        "beam": options.beam_size,
        **{name: round(score, 4) for name, score in scores.items()},
    }


def format_table(scores: dict[str, str | int | float]) -> str:
    """The scores for people, one a line."""
    return "\n".join(f"{name:<12}{value:>10}" for name, value in scores.items())
