"""The deletion test: a word is worth less when what it looked at is gone. In: a captioner and its captions; out:
numbers.

The most attended fifth of the cells is laid over with the picture's mean colour, the same sentence is scored again, and
the word's log-probability should fall by more than with as many cells elsewhere (the deletion metric of Petsiuk, Das
and Saenko, 2018, at one point of its curve). Elsewhere is twofold: cells at random, and the same shape moved to a
random place, since a hole hides more of one thing, and disturbs the rest less, than the same area in specks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from model.caption import Caption
from model.captioner import Captioner
from model.evaluation.boxes import Grid, grid_of
from model.evaluation.coco_mentions import mentions
from model.training.dataset import Sample

SHARE = 0.2
DRAWS = 4

Cells = npt.NDArray[np.bool_]  # (rows, cols)


@dataclass(frozen=True, slots=True)
class Falls:
    """By how much one word's log-probability fell, without the cells it attended and without others."""

    attended: float
    random: list[float]
    shifted: list[float]


def deletion(
    captioner: Captioner, samples: Sequence[Sample], captions: Sequence[Caption], seed: int = 0
) -> dict[str, float]:
    """Mean falls over every word that names a COCO class, and how often the attended cells cost more than others."""
    rng = np.random.default_rng(seed)
    pairs = tqdm(zip(samples, captions, strict=True), desc="deleting", unit="image", total=len(samples))
    found = [falls for sample, caption in pairs for falls in _falls(captioner, sample, caption, rng)]
    if not found:
        return {"words": 0}
    return {
        "words": len(found),
        "fall_attended": float(np.mean([falls.attended for falls in found])),
        "fall_random": float(np.mean([falls.random for falls in found])),
        "fall_shifted": float(np.mean([falls.shifted for falls in found])),
        "more_than_random": float(np.mean([_more(falls.attended, falls.random) for falls in found])),
        "more_than_shifted": float(np.mean([_more(falls.attended, falls.shifted) for falls in found])),
    }


def most_attended(weights: Grid, share: float = SHARE) -> Cells:
    """The most attended `share` of the cells, one at least."""
    cells = np.zeros(weights.size, dtype=bool)
    cells[np.argsort(-weights, axis=None, kind="stable")[: max(1, round(share * weights.size))]] = True
    return cells.reshape(weights.shape)


def blank(pixels: torch.Tensor, cells: Cells) -> torch.Tensor:
    """Prepared pixels (3, S, S) with the mean colour of the picture over `cells`."""
    size = pixels.shape[1:]
    mask = torch.nn.functional.interpolate(torch.from_numpy(cells).float()[None, None], size=size)[
        0, 0
    ].bool()  # (S, S)
    colour = pixels.float().mean(dim=(1, 2), keepdim=True).round().to(pixels.dtype)  # (3, 1, 1)
    return torch.where(mask, colour, pixels)


def _falls(captioner: Captioner, sample: Sample, caption: Caption, rng: np.random.Generator) -> Iterator[Falls]:
    named = mentions([word.text for word in caption.words])
    if not named:
        return
    pixels = captioner.prepare(sample.image())
    for mention in named:
        word = caption.words[mention.position]
        attended = most_attended(grid_of(word.attention))
        random = [rng.permuted(attended.ravel()).reshape(attended.shape) for _ in range(DRAWS)]
        shifted = [_shift(attended, rng) for _ in range(DRAWS)]
        memory = captioner.encode(torch.stack([blank(pixels, cells) for cells in (attended, *random, *shifted)]))
        scored = captioner.score(memory, [caption.text] * memory.images)
        falls = [word.logprob - again.words[mention.position].logprob for again in scored]
        yield Falls(falls[0], falls[1 : 1 + DRAWS], falls[1 + DRAWS :])


def _shift(cells: Cells, rng: np.random.Generator) -> Cells:
    """The same shape elsewhere; what leaves the picture on one side comes back on the other."""
    by = int(rng.integers(1, cells.size))  # 0 would be where it was
    return np.roll(cells, divmod(by, cells.shape[1]), axis=(0, 1))


def _more(attended: float, others: Sequence[float]) -> float:
    """Of `others`, the share that `attended` exceeds; equals count by half."""
    return float(np.mean([(attended > other) + 0.5 * (attended == other) for other in others]))
