"""The deletion test: does a word become less probable when the cells that it attended to are hidden?

The fifth of the cells with the most attention is filled with the picture's mean colour, and the same sentence is scored
again. The word's log-probability should fall by more than when as many other cells are hidden (the deletion metric of
Petsiuk, Das and Saenko, 2018, at one point of its curve). The other cells are chosen in two ways: at random, and as the
same shape at a random place. A hole hides more of one thing, and disturbs the rest less, than specks of the same area.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from model.decoding.caption import Caption
from model.evaluation.coco_mentions import mentions
from model.evaluation.grounding import Grid, grid_of
from model.runtime.captioner import Captioner
from model.training.dataset import Sample

SHARE = 0.2
DRAWS = 4

Cells = npt.NDArray[np.bool_]  # (rows, cols)


@dataclass(frozen=True, slots=True)
class Falls:
    """The falls of one word's log-probability, without the cells that it attended to and without others."""

    attended: float
    random: list[float]
    shifted: list[float]


def deletion(
    captioner: Captioner, samples: Sequence[Sample], captions: Sequence[Caption], seed: int = 0
) -> dict[str, float]:
    """Compute the mean falls over all words that name a COCO class, and how often attended cells cost more."""
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
    """Select the `share` of the cells with the most attention, at least one."""
    cells = np.zeros(weights.size, dtype=bool)
    cells[np.argsort(-weights, axis=None, kind="stable")[: max(1, round(share * weights.size))]] = True
    return cells.reshape(weights.shape)


def blank(pixels: torch.Tensor, cells: Cells) -> torch.Tensor:
    """Fill `cells` of prepared pixels (3, S, S) with the mean colour of the picture."""
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
        attended = most_attended(grid_of(word.heatmap))
        random = [rng.permuted(attended.ravel()).reshape(attended.shape) for _ in range(DRAWS)]
        shifted = [_shift(attended, rng) for _ in range(DRAWS)]
        encoded = captioner.encode(torch.stack([blank(pixels, cells) for cells in (attended, *random, *shifted)]))
        scored = captioner.score(encoded, [caption.text] * encoded.images)
        falls = [word.logprob - again.words[mention.position].logprob for again in scored]
        yield Falls(falls[0], falls[1 : 1 + DRAWS], falls[1 + DRAWS :])


def _shift(cells: Cells, rng: np.random.Generator) -> Cells:
    """Move the shape to a random place. What leaves the picture on one side returns on the other."""
    by = int(rng.integers(1, cells.size))  # 0 would not move it
    return np.roll(cells, divmod(by, cells.shape[1]), axis=(0, 1))


def _more(attended: float, others: Sequence[float]) -> float:
    """Return the share of `others` that `attended` exceeds. Ties count half."""
    return float(np.mean([(attended > other) + 0.5 * (attended == other) for other in others]))
