"""The family: all recipes of recipes/family, trained in the same way, scored in the same way, and put into one table.

In: a data folder and a folder of runs; out: figures of every member, and the table as Markdown. It must not know how
any of them works.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from model.captioner import Captioner
from model.evaluation.coco_dev import load_named
from model.evaluation.scores import coco_scores
from model.options import DecodingOptions
from model.pixels import normalise
from model.training.checkpoint import read_record
from model.training.dataset import Sample
from model.training.recipe import Recipe
from model.training.trainer import CHECKPOINT, Trainer

log = logging.getLogger(__name__)

# In the order in which each adds something to those before it.
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
    """What is known of one trained captioner of the family."""

    name: str
    parameters: int  # of the decoder; the encoder is the same for all
    processor_seconds: float  # of training, validation included: on one core that has nothing else to do
    epochs: int
    scores: dict[str, dict[str, float]]  # by split: fractions, as coco-caption computes them

    def as_dict(self) -> dict[str, object]:
        """As plain JSON data."""
        return asdict(self)


def family_recipes() -> dict[str, Recipe]:
    """The recipe of each member."""
    return {name: Recipe.load(f"family/{name}") for name in MEMBERS}


def train_family(recipes: Mapping[str, Recipe], data: Path, runs: Path, device: torch.device) -> None:
    """Train every member that has not been trained, in `runs`/NAME; one that was interrupted goes on where it was.

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
    for split, captions, references in caption_splits(captioners, data, splits, options):
        for name, texts in captions.items():
            scores[name][split] = {score: round(value, 4) for score, value in coco_scores(texts, references).items()}
    return [describe(name, captioner, runs, scores[name]) for name, captioner in captioners.items()]


def describe(name: str, captioner: Captioner, runs: Path, scores: dict[str, dict[str, float]]) -> Member:
    """The `captioner` of the run `name`, with its `scores`."""
    record = read_record(runs / name / CHECKPOINT)
    parameters = sum(parameter.numel() for parameter in captioner.decoder.parameters())
    return Member(name, parameters, round(record["time"]["processor_seconds"], 3), record["epoch"], scores)


def caption_splits(
    captioners: dict[str, Captioner], data: Path, splits: Iterable[str], options: DecodingOptions
) -> Iterator[tuple[str, dict[str, dict[str, str]], dict[str, list[str]]]]:
    """Of each of `splits` ("coco-dev" is one) its name, the captions of its images by each captioner, and people's.

    Raises DatasetUnusable.
    """
    for split in splits:
        samples = load_named(data, split)
        references = {sample.name: sample.captions for sample in samples}
        yield split, caption_by_all(captioners, samples, options), references


@torch.inference_mode()
def caption_by_all(
    captioners: dict[str, Captioner], samples: Sequence[Sample], options: DecodingOptions
) -> dict[str, dict[str, str]]:
    """The best caption of each image by each of `captioners`.

    Their frozen encoders are one, so it looks only once for all who have grids as fine.
    """
    captions: dict[str, dict[str, str]] = {name: {} for name in captioners}
    eyes = {captioner.config.output_stride: captioner for captioner in captioners.values()}
    eye = next(iter(eyes.values()))
    for start in tqdm(range(0, len(samples), _BATCH), desc="captioning", unit="batch"):
        batch = samples[start : start + _BATCH]
        pixels = torch.stack([eye.prepare(sample.image()) for sample in batch])
        pixels = normalise(pixels.to(eye.device))
        grids = {stride: seeing.encoder(pixels) for stride, seeing in eyes.items()}
        for name, captioner in captioners.items():
            memory = captioner.decoder.memorise(grids[captioner.config.output_stride])
            for sample, (best, *_) in zip(batch, captioner.write(memory, options), strict=True):
                captions[name][sample.name] = best.text
    return captions


def format_family(members: Sequence[Member], splits: Sequence[str]) -> str:
    """A Markdown table for each of `splits`."""
    return "\n".join(_table(members, split) for split in splits)


def write_table(table: str, document: Path = DOCUMENT) -> None:
    """Put `table` between the two marks in `document`. Raises ValueError where there are none."""
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
