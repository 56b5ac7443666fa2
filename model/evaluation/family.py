"""The family: train all recipes of recipes/family in the same way, score them, and write docs/family.md's table."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from model.decoding.options import DecodingOptions
from model.evaluation.coco_dev import load_named
from model.evaluation.scores import coco_scores
from model.runtime.captioner import Captioner
from model.runtime.pixels import normalise
from model.training.checkpoint import CHECKPOINT, read_record
from model.training.dataset import Sample
from model.training.recipe import Recipe
from model.training.trainer import Trainer

log = logging.getLogger(__name__)

# Each adds something to those before it.
MEMBERS = (
    "rnn",
    "gru",
    "lstm",
    "rnn-additive",
    "gru-additive",
    "lstm-additive",
    "lstm-additive-deep",
    "lstm-dot",
    "lstm-additive-characters",
)
DOCUMENT = Path(__file__).parents[2] / "docs" / "family.md"
_BEGIN, _END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
_COLUMNS = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
}
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Member:
    """The figures of one trained captioner of the family."""

    name: str
    parameters: int  # of the decoder; all members share the encoder
    processor_seconds: float  # of training, including validation, on one otherwise idle core
    epochs: int
    scores: dict[str, dict[str, float]]  # by split: fractions, computed as coco-caption does

    def as_dict(self) -> dict[str, object]:
        """Return plain JSON data."""
        return asdict(self)


def family_recipes() -> dict[str, Recipe]:
    """Load the recipe of each member."""
    return {name: Recipe.load(f"family/{name}") for name in MEMBERS}


def train_family(recipes: Mapping[str, Recipe], data: Path, runs: Path, device: torch.device) -> None:
    """Train every member that is not trained yet, in `runs`/NAME. Interrupted runs resume.

    Raises DatasetUnusable and RunMismatch.
    """
    for name, recipe in recipes.items():
        log.info("training %s", name)
        Trainer(recipe, data, runs / name, device).fit()


def score_family(
    names: Iterable[str],
    data: Path,
    runs: Path,
    splits: Sequence[str],
    options: DecodingOptions,
    device: torch.device,
) -> list[Member]:
    """Caption all images of `splits` with every member, and score the captions.

    Raises CaptionerNotLoadable, DatasetUnusable and JavaMissing.
    """
    captioners = {name: Captioner.load(runs / name / "best", device) for name in names}
    scores: dict[str, dict[str, dict[str, float]]] = {name: {} for name in captioners}
    for split in splits:
        samples = load_named(data, split)
        references = {sample.name: sample.captions for sample in samples}
        for name, texts in caption_by_all(captioners, samples, options).items():
            scores[name][split] = {score: round(value, 4) for score, value in coco_scores(texts, references).items()}
    return [_member(name, captioner, runs, scores[name]) for name, captioner in captioners.items()]


def _member(name: str, captioner: Captioner, runs: Path, scores: dict[str, dict[str, float]]) -> Member:
    record = read_record(runs / name / CHECKPOINT)
    parameters = sum(parameter.numel() for parameter in captioner.decoder.parameters())
    return Member(name, parameters, round(record["time"]["processor_seconds"], 3), record["epoch"], scores)


@torch.inference_mode()
def caption_by_all(
    captioners: dict[str, Captioner], samples: Sequence[Sample], options: DecodingOptions
) -> dict[str, dict[str, str]]:
    """Write the best caption of each image with each of `captioners`. Their common frozen encoder runs once."""
    captions: dict[str, dict[str, str]] = {name: {} for name in captioners}
    eye = next(iter(captioners.values()))
    for start in tqdm(range(0, len(samples), _BATCH), desc="captioning", unit="batch"):
        batch = samples[start : start + _BATCH]
        pixels = torch.stack([eye.prepare(sample.image()) for sample in batch])
        grid = eye.encoder(normalise(pixels.to(eye.device)))
        for name, captioner in captioners.items():
            encoded = captioner.encode_features(grid)
            for sample, (best, *_) in zip(batch, captioner.generate(encoded, options), strict=True):
                captions[name][sample.name] = best.text
    return captions


def format_family(members: Sequence[Member], splits: Sequence[str]) -> str:
    """Format a Markdown table for each of `splits`."""
    return "\n".join(_table(members, split) for split in splits)


def write_table(table: str, document: Path = DOCUMENT) -> None:
    """Replace the table between the two marks in `document`. Raises ValueError if the marks are missing."""
    text = document.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{document} has no place for the table: {_BEGIN.strip()} and {_END.strip()}")
    document.write_text(f"{before}{begin}{table}{end}{after}", encoding="utf-8")


def _table(members: Sequence[Member], split: str) -> str:
    heads = [f"`{split}`", "parameters", "training", *_COLUMNS.values()]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for member in members:
        figures = [f"{member.scores[split][score]:.3f}" for score in _COLUMNS]
        rows.append(
            [
                f"`{member.name}`",
                f"{member.parameters / 1e6:.2f} M",
                f"{member.processor_seconds / 60:.1f} min",
                *figures,
            ]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
