"""What each lever gives: one captioner of the family trained anew with one thing changed, against itself as it was.

In: a data folder and a folder of runs; out: figures of each, differences from the base, and a table as Markdown. It
must not know how any of the levers works.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from model.captioner import Captioner
from model.evaluation import coco_dev
from model.evaluation.family import Member, caption_splits, describe
from model.evaluation.scores import bootstrap_interval, coco_ciders
from model.options import DecodingOptions
from model.training.checkpoint import read_record
from model.training.recipe import Recipe
from model.training.trainer import CHECKPOINT

BASE = "lstm-additive"
# What might give something, then what the base has already, taken away.
LEVERS = (
    "attributes",
    "finer-grid",
    "sentinel",
    "top-down",
    "distilled",
    "word-vectors",
    "pretrained",
    "scheduled-sampling",
    "longer",
    "self-critical",
    "untied",
    "no-smoothing",
    "no-dropout",
    "no-average",
    "no-doubly-stochastic",
    "no-mirror",
)
SPLITS = ("val", coco_dev.NAME)
DOCUMENT = Path(__file__).parents[2] / "docs" / "levers.md"


@dataclass(frozen=True, slots=True)
class Lever:
    """What is known of the base with one thing changed; its only score is CIDEr."""

    member: Member
    # By split: the mean difference of an image's CIDEr from the base's, and the ends of its 95 % bootstrap interval
    # over images; nothing for the base itself.
    gains: dict[str, tuple[float, float, float]]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self.member) | {"gains": self.gains}


def lever_recipes() -> dict[str, Recipe]:
    """The recipes of the base, of whoever a lever learns from, and of all levers, in the order in which to train."""
    levers = {name: Recipe.load(f"levers/{name}") for name in LEVERS}
    teachers = [name for recipe in levers.values() if recipe.distillation for name in recipe.distillation.teachers]
    return {name: Recipe.load(f"family/{name}") for name in (BASE, *teachers)} | levers


def trained(recipes: Mapping[str, Recipe], runs: Path) -> list[str]:
    """Those of `recipes` that have been trained, in `runs`/NAME, to the last epoch."""
    paths = {name: runs / name / CHECKPOINT for name in recipes}
    return [
        name for name, path in paths.items() if path.is_file() and read_record(path)["epoch"] == recipes[name].epochs
    ]


def score_levers(
    names: Iterable[str], data: Path, runs: Path, options: DecodingOptions, device: torch.device
) -> list[Lever]:
    """Caption all images of SPLITS with the base and those levers that are among `names`, and compare the captions.

    Raises CaptionerNotLoadable, DatasetUnusable and JavaMissing.
    """
    chosen = [BASE, *[name for name in LEVERS if name in names]]
    captioners = {name: Captioner.load(runs / name / "best", device) for name in chosen}
    ciders = {
        split: {name: coco_ciders(texts, references) for name, texts in captions.items()}
        for split, captions, references in caption_splits(captioners, data, SPLITS, options)
    }
    return [
        Lever(
            describe(name, captioner, runs, {split: {"cider": _mean(ciders[split][name])} for split in SPLITS}),
            {} if name == BASE else {split: gain(ciders[split][name], ciders[split][BASE]) for split in SPLITS},
        )
        for name, captioner in captioners.items()
    ]


def gain(scores: npt.NDArray[Any], base: npt.NDArray[Any]) -> tuple[float, float, float]:
    """The mean of `scores` - `base`, one an image, with the ends of its interval: the images are the same, so they are
    drawn in pairs."""
    low, high = bootstrap_interval(scores - base)
    return _mean(scores - base), round(low, 4), round(high, 4)


def format_levers(levers: Sequence[Lever]) -> str:
    """A Markdown table."""
    heads = ["", "parameters", "training", *[head for split in SPLITS for head in (f"CIDEr, `{split}`", "difference")]]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for lever in levers:
        member = lever.member
        figures = [f"{member.parameters / 1e6:.2f} M", f"{member.processor_seconds / 60:.1f} min"]
        for split in SPLITS:
            figures.append(f"{member.scores[split]['cider']:.3f}")
            figures.append("{:+.3f} ({:+.3f} to {:+.3f})".format(*lever.gains[split]) if lever.gains else "")
        rows.append([f"`{member.name}`", *figures])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _mean(scores: npt.NDArray[Any]) -> float:
    return round(float(scores.mean()), 4)
