"""Whether several captioners say better between them what each says alone: CIDEr of each, and of the mean of them all.

    python benchmarks/ensemble.py --data DIR FOLDER FOLDER …      # Flickr8k `val` and coco-dev; minutes

In: a data folder with flickr8k/ and coco-dev/, and folders that hold captioners of one vocabulary and one trunk, such
as the best/ of runs that differ in their seed; out: a table, and a JSON last line. An ensemble averages the
probabilities of the next word. What it is better by is what distilling it into one captioner could hope to give. CIDEr
is on our own tokens (no Java), so it differs a little from `wordlight evaluate`.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from figures import print_table
from tqdm import tqdm

from model.captioner import Captioner
from model.cells import State
from model.decoder import AnyDecoder
from model.evaluation.captions import prepare
from model.evaluation.coco_dev import load_coco_dev
from model.memory import Memory
from model.options import DecodingOptions
from model.pixels import normalise
from model.training.cider import quick_cider
from model.training.dataset import Sample, load_split
from model.writing import write

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Memories(Memory):
    """What each member knows of the images; to those who do not ask, it is what the first knows."""

    members: tuple[Memory, ...]

    @classmethod
    def of(cls, members: Sequence[Memory]) -> "Memories":
        """What several know of the same images."""
        first = members[0]
        return cls(first.annotations, first.keys, first.rows, first.cols, tuple(members))

    def select(self, index: Sequence[int] | torch.Tensor) -> "Memories":
        """See Memory."""
        return Memories.of([member.select(index) for member in self.members])


class Ensemble:
    """Several decoders as one: the mean of their probabilities, and the attention of the first."""

    def __init__(self, members: Sequence[AnyDecoder]) -> None:
        self._members = members
        self.output_bias = members[0].output_bias

    def start(self, memory: Memory, rows: int) -> State:
        """See Stepping."""
        assert isinstance(memory, Memories)
        pairs = zip(self._members, memory.members, strict=True)
        return State(tuple(part for member, known in pairs for part in member.start(known, rows).parts))

    def step(self, tokens: torch.Tensor, state: State, memory: Memory) -> tuple[torch.Tensor, State, torch.Tensor]:
        """See Stepping."""
        assert isinstance(memory, Memories)
        size = len(state.parts) // len(self._members)
        steps = [
            member.step(tokens, State(state.parts[number * size :][:size]), known)
            for number, (member, known) in enumerate(zip(self._members, memory.members, strict=True))
        ]
        mean = torch.stack([logits.log_softmax(dim=2) for logits, _, _ in steps]).logsumexp(dim=0)
        return mean, State(tuple(part for _, new, _ in steps for part in new.parts)), steps[0][2]


@torch.inference_mode()
def measure(captioners: Sequence[Captioner], samples: Sequence[Sample]) -> Iterator[float]:
    """The CIDEr of each of `captioners`, and of them all together; every picture is looked at once."""
    first, everyone = captioners[0], range(len(captioners))
    teams = [*([member] for member in everyone), list(everyone)]
    written: list[dict[str, str]] = [{} for _ in teams]
    for start in tqdm(range(0, len(samples), _BATCH), unit="batch"):
        batch = samples[start : start + _BATCH]
        trunk = first.encoder.trunk(normalise(prepare(first, batch)))
        known = [captioner.memorise(captioner.see(trunk)) for captioner in captioners]
        for team, captions in zip(teams, written, strict=True):
            ensemble = Ensemble([captioners[member].decoder for member in team])
            memory = Memories.of([known[member] for member in team])
            found = write(ensemble, first.vocabulary, memory, DecodingOptions(), seeds=None, watch=None)
            captions |= {sample.name: best.text for sample, (best, *_) in zip(batch, found, strict=True)}
    references = {sample.name: sample.captions for sample in samples}
    for captions in written:
        yield quick_cider(captions, references)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="has flickr8k/ and coco-dev/ in it")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="holds a captioner")
    arguments = parser.parse_args()
    captioners = [Captioner.load(folder) for folder in arguments.folders]
    if any(captioner.vocabulary.words != captioners[0].vocabulary.words for captioner in captioners):
        parser.error("these captioners have different vocabularies")
    names = [*map(str, arguments.folders), "all together"]
    scores: dict[str, dict[str, float]] = {name: {} for name in names}
    for split, samples in (("val", load_split(arguments.data, "val")), ("coco-dev", load_coco_dev(arguments.data))):
        for name, cider in zip(names, measure(captioners, samples), strict=True):
            scores[name][split] = round(cider, 4)
    print_table([{"": name, **by_split} for name, by_split in scores.items()])
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
