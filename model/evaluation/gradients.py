"""How far back a recurrent network learns: gradients of the loss at a late word with respect to all earlier states.

The norms of d loss_T / d h_t are measured for each cell of the family, with and without attention, before and after
training, and drawn as docs/gradients.svg.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import nn

from model.network.decoder import BaseDecoder, Decoder
from model.network.encoded_images import EncodedImages
from model.runtime.captioner import Captioner
from model.runtime.pixels import normalise
from model.training.batches import pad_captions
from model.training.dataset import Sample, load_split
from model.training.recipe import Recipe

CELLS = ("rnn", "gru", "lstm")
ATTENTIONS = ("none", "additive")
FIGURE = Path(__file__).parents[2] / "docs" / "gradients.svg"
_PARTS = ("hidden", "memory")
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Curve:
    """The mean norm of d loss_T / d state_t for t = T, T - 1, T - 2, … of one network.

    `part` is the part of the state: "hidden" (h_t) or, in an LSTM, "memory" (c_t).
    """

    cell: str
    attention: str
    trained: bool
    part: str
    norms: list[float]

    def as_dict(self) -> dict[str, object]:
        """Return plain JSON data."""
        return asdict(self)


def gradient_norms(
    decoder: Decoder, encoded: EncodedImages, tokens: Sequence[Sequence[int]], back: int
) -> list[list[float]]:
    """Compute, for each part of the state, the mean norms at t = T, T - 1, …, T - `back`.

    `tokens` has one sentence per image. The loss is the cross-entropy of its last token, so all sentences must have
    more than `back` tokens. The state is passed from step to step, so its gradient includes every path to the loss.
    """
    inputs, targets = pad_captions([[[*sentence]] for sentence in tokens])  # (B, 1, T)
    inputs, targets = inputs.to(encoded.annotations.device), targets.to(encoded.annotations.device)
    last = torch.tensor([len(sentence) - 1 for sentence in tokens], device=inputs.device)  # (B,): the step of the loss
    state, losses = decoder.start(encoded, rows=1), []
    by_step: list[list[torch.Tensor]] = [[] for _ in state.parts]
    for step in range(int(last.max()) + 1):
        logits, state, _ = decoder.step(inputs[:, :, step], state, encoded)
        for part, steps in zip(state.parts, by_step, strict=True):
            steps.append(part)
        losses.append(nn.functional.cross_entropy(logits[:, 0], targets[:, 0, step], reduction="none"))
    loss = torch.stack(losses, dim=1).gather(1, last.unsqueeze(1)).sum()  # rows are independent
    gradients = torch.autograd.grad(loss, [part for steps in by_step for part in steps], allow_unused=True)
    norms = []
    for first in range(0, len(gradients), len(losses)):
        of_part = [_norms(gradient, len(tokens)) for gradient in gradients[first : first + len(losses)]]
        places = last.cpu().unsqueeze(1) - torch.arange(back + 1)  # (B, back + 1)
        norms.append(torch.stack(of_part, dim=1).gather(1, places).mean(dim=0).tolist())
    return norms


def _norms(gradient: torch.Tensor | None, images: int) -> torch.Tensor:
    """Compute the norm of the gradient (B, 1, layers, H) of each image. None: no loss depends on the state."""
    return torch.zeros(images) if gradient is None else gradient.flatten(1).norm(dim=1).cpu()


def measure(
    data: Path, runs: Path, device: torch.device, *, captions: int = 200, words: int = 12, split: str = "val"
) -> list[Curve]:
    """Measure all curves on captions of at least `words` words.

    Raises CaptionerNotLoadable, if a member of the family is not trained, and DatasetUnusable.
    """
    networks = {
        (cell, attention): Captioner.load(runs / _name(cell, attention) / "best", device)
        for attention in ATTENTIONS
        for cell in CELLS
    }
    eye = next(iter(networks.values()))
    samples, tokens = _long_captions(load_split(data, split), eye, words, captions)
    grid = _see(eye, samples)
    curves = []
    for trained in (False, True):
        for (cell, attention), captioner in networks.items():
            decoder = captioner.decoder if trained else _untrained(captioner, _name(cell, attention))
            assert isinstance(decoder, Decoder)
            norms = gradient_norms(decoder, decoder.encode(grid), tokens, back=words - 1)
            curves += [Curve(cell, attention, trained, *part) for part in zip(_PARTS, norms, strict=False)]
    return curves


def _name(cell: str, attention: str) -> str:
    return cell if attention == "none" else f"{cell}-{attention}"


def _untrained(captioner: Captioner, name: str) -> BaseDecoder:
    """Make the decoder that the training of `captioner` started with."""
    torch.manual_seed(Recipe.load(f"family/{name}").seed)
    fresh = Captioner(captioner.config, captioner.vocabulary)
    return fresh.to(captioner.device).eval().decoder


def _long_captions(
    samples: list[Sample], captioner: Captioner, words: int, count: int
) -> tuple[list[Sample], list[list[int]]]:
    """Find the first `count` images with a caption of at least `words` words, and the first such caption of each."""
    chosen = []
    for sample in samples:
        of_sample = (captioner.vocabulary.encode(caption) for caption in sample.captions)
        if tokens := next((tokens for tokens in of_sample if len(tokens) >= words), None):
            chosen.append((sample, tokens))
    return [sample for sample, _ in chosen[:count]], [tokens for _, tokens in chosen[:count]]


@torch.no_grad()
def _see(captioner: Captioner, samples: Sequence[Sample]) -> torch.Tensor:
    """Compute the annotation grids (B, C, R, R). All networks share them, because their encoder is frozen."""
    grids = []
    for start in range(0, len(samples), _BATCH):
        pixels = torch.stack([captioner.prepare(sample.image()) for sample in samples[start : start + _BATCH]])
        grids.append(captioner.encoder(normalise(pixels.to(captioner.device))))
    return torch.cat(grids)


def draw(curves: Sequence[Curve], path: Path = FIGURE) -> None:
    """Write the figure as SVG. Equal curves give an equal file."""
    colours = {"rnn": "#c44e52", "gru": "#dd8452", "lstm": "#4c72b0"}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "wordlight"}):
        figure = Figure(figsize=(9, 6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey=True, squeeze=False)
        for row, trained in enumerate((False, True)):
            for column, attention in enumerate(ATTENTIONS):
                panel = panels[row, column]
                for curve in curves:
                    if (curve.trained, curve.attention) == (trained, attention):
                        label = curve.cell.upper() + (", memory c" if curve.part == "memory" else "")
                        style = "--" if curve.part == "memory" else "-"
                        # The loss depends on the last memory through the hidden state alone: its norm is 0.
                        norms = [norm or math.nan for norm in curve.norms]
                        panel.plot(norms, style, color=colours[curve.cell], marker=".", label=label)
                panel.set_yscale("log")
                panel.grid(alpha=0.3)
                when, what = (
                    "after training" if trained else "at initialisation",
                    "no" if attention == "none" else attention,
                )
                panel.set_title(f"{when}, {what} attention", fontsize=10)
        panels[0, 0].legend(fontsize=8)
        figure.supxlabel("words back from the loss: T − t")
        figure.supylabel("norm of ∂loss at T / ∂h at t, mean over captions")
        figure.savefig(path, format="svg", metadata={"Date": None})
