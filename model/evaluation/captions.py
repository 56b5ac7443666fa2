"""Captions of many images: written by the captioner, or given and scored by teacher forcing."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from tqdm import tqdm

from model.decoding.caption import Caption
from model.decoding.options import DecodingOptions
from model.runtime.captioner import Captioner
from model.training.dataset import Sample

_IMAGES = 32
# Sentences that are scored at once. Each has a copy of its encoded image.
_SENTENCES = 64


def write_captions(
    captioner: Captioner, samples: Sequence[Sample], options: DecodingOptions, title: str
) -> list[Caption]:
    """Write the best caption of each image, in the style of its data set if the captioner was trained on that."""
    styles, captions = captioner.vocabulary.styles, []
    if options.style is None and samples and samples[0].style in styles:
        options = replace(options, style=samples[0].style)
    for start in tqdm(range(0, len(samples), _IMAGES), desc=f"captioning {title}", unit="batch"):
        batch = samples[start : start + _IMAGES]
        captions += [best for best, *_ in captioner.caption_pixels(prepare(captioner, batch), options)]
    return captions


def score_captions(
    captioner: Captioner, samples: Sequence[Sample], sentences: Sequence[Sequence[str]], title: str
) -> list[list[Caption]]:
    """Score any number of given sentences for each image, as if the captioner had written them."""
    scored: list[list[Caption]] = []
    for start in tqdm(range(0, len(samples), _IMAGES), desc=f"scoring {title}", unit="batch"):
        batch = samples[start : start + _IMAGES]
        encoded = captioner.encode(prepare(captioner, batch))
        told = sentences[start : start + _IMAGES]
        pairs = [(image, sentence) for image, of_image in enumerate(told) for sentence in of_image]
        answers: list[list[Caption]] = [[] for _ in batch]
        for first in range(0, len(pairs), _SENTENCES):
            images, texts = zip(*pairs[first : first + _SENTENCES], strict=True)
            for image, caption in zip(images, captioner.score(encoded.select(images), texts), strict=True):
                answers[image].append(caption)
        scored += answers
    return scored


def prepare(captioner: Captioner, samples: Sequence[Sample]) -> torch.Tensor:
    """Prepare the pixels of all images as one batch: (B, 3, S, S)."""
    return torch.stack([captioner.prepare(sample.image()) for sample in samples])
