"""A tiny data set: pictures with one colour above another, and captions that name them.

The image files are real, and a captioner trained on them takes seconds.
"""

import json
from itertools import permutations
from pathlib import Path

import torch
from PIL import Image

from model.network.decoder import DecoderConfig
from model.runtime.captioner import CaptionerConfig
from model.training.recipe import Recipe
from model.training.trainer import Trainer

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "white": (245, 245, 245)}
WORDS = {*COLOURS, "above", "over", "a", "one"}

RECIPE = Recipe(
    captioner=CaptionerConfig(
        name="tiny",
        encoder="test_efficientnet",
        image_size=96,
        decoder=DecoderConfig(embedding_size=32, hidden_size=32, annotation_size=32, attention_size=16, dropout=0.0),
    ),
    min_word_count=1,
    tail_stages=7,
    views=1,
    epochs=25,
    patience=25,
    images_per_step=3,
    learning_rate=1e-2,
    tail_learning_rate=2e-3,
    warmup_steps=5,
    label_smoothing=0.0,
    ema=0.9,
    bfloat16=False,
)


def picture(top: str, bottom: str, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """Return a picture with the colour `top` above `bottom`."""
    image = Image.new("RGB", size, COLOURS[bottom])
    image.paste(COLOURS[top], (0, 0, size[0], size[1] // 2))
    return image


def write_data(folder: Path, *, uneven: bool = False) -> Path:
    """Write the data set in the layout of Flickr8k. Every split holds the same twelve pictures.

    With `uneven`, pictures have one to three captions of different lengths.
    """
    index = {}
    for split in ("train", "val", "test"):
        for top, bottom in permutations(COLOURS, 2):
            name = f"{split}-{top}-{bottom}.png"
            picture(top, bottom).save(folder / name)
            captions = [f"A {top} over a {bottom} .", f"A {top} above a {bottom} .", f"One {top} over one {bottom} ."]
            if uneven:
                count = 1 + len(index) % 3
                captions = [caption + " and nothing else" * (len(index) % 2) for caption in captions[:count]]
            index[name] = {"split": split, "captions": captions}
    (folder / "captions.json").write_text(json.dumps(index))
    return folder


def train_captioner(data: Path, run: Path, recipe: Recipe = RECIPE) -> Path:
    """Train on `data` and return the folder of the best captioner."""
    Trainer(recipe, data, run, torch.device("cpu")).fit()
    return run / "best"
