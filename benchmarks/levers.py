"""What each part of the shipped captioner is worth: CIDEr with one thing taken away or put in another's place.

    python benchmarks/levers.py --data DIR        # Flickr8k `val` and `train`, coco-dev; ten minutes on two cores

In: a data folder with flickr8k/ and coco-dev/; out: a table, and a JSON last line. Nothing is trained: a part that is
taken away here was there in training, so this measures how much is relied on it, not what a captioner without it would
have learnt instead. Of training images it says how much is known by heart. CIDEr is on our own tokens (no Java), so it
differs a little from `wordlight evaluate`.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from figures import print_table
from PIL import Image
from tqdm import tqdm

from model.adaptive import AdaptiveDecoder, Sight
from model.captioner import SHIPPED, Captioner
from model.evaluation.coco_dev import load_coco_dev
from model.options import DecodingOptions, Strategy
from model.pixels import normalise
from model.training.cider import quick_cider
from model.training.dataset import load_split

_BATCH = 32
_TRAINING_IMAGES = 1000  # as many as `val` has

Change = Callable[[Sight], Sight]


class Variant(NamedTuple):
    """One way to use the captioner."""

    name: str
    change: Change
    options: DecodingOptions
    evidence: bool = True


def variants() -> list[Variant]:
    """The captioner as it is, first; then each change by itself."""
    usual = DecodingOptions()

    def same(sight: Sight) -> Sight:
        return sight

    def blind(sight: Sight) -> Sight:
        return Sight(sight.fine, sight.grid, torch.zeros_like(sight.words))

    def coarse(sight: Sight) -> Sight:
        return Sight(torch.zeros_like(sight.fine), sight.grid, sight.words)

    def no_tail(sight: Sight) -> Sight:
        return Sight(sight.fine, torch.zeros_like(sight.grid), sight.words)

    def words_only(sight: Sight) -> Sight:
        return Sight(torch.zeros_like(sight.fine), torch.zeros_like(sight.grid), sight.words)

    return [
        Variant("as shipped (beam 3)", same, usual),
        Variant("greedy", same, DecodingOptions(strategy=Strategy.GREEDY)),
        Variant("beam 5", same, DecodingOptions(beam_size=5)),
        Variant("words may come twice", same, DecodingOptions(repeatable=None)),
        Variant("what is seen makes no word more probable", same, usual, evidence=False),
        Variant("no words seen at all", blind, usual),
        Variant("no fine grid", coarse, usual),
        Variant("no coarse grid", no_tail, usual),
        Variant("nothing but the words seen", words_only, usual),
    ]


@torch.inference_mode()
def measure(
    captioner: Captioner, pictures: Sequence[tuple[str, Callable[[], Image.Image]]], references: dict[str, list[str]]
) -> Iterator[tuple[str, float]]:
    """The name and the CIDEr of each variant; every picture is looked at once."""
    decoder = captioner.decoder
    assert isinstance(decoder, AdaptiveDecoder), "only a captioner with adaptive attention has these parts"
    trust = decoder.word_trust.clone()
    captions: dict[str, dict[str, str]] = {variant.name: {} for variant in variants()}
    for start in tqdm(range(0, len(pictures), _BATCH), unit="batch"):
        batch = pictures[start : start + _BATCH]
        pixels = torch.stack([captioner.prepare(image()) for _, image in batch])
        sight = captioner.see(captioner.encoder.trunk(normalise(pixels)))
        assert isinstance(sight, Sight)
        for variant in variants():
            decoder.word_trust.copy_(trust if variant.evidence else torch.zeros_like(trust))
            memory = captioner.memorise(variant.change(sight))
            for (name, _), (best, *_) in zip(batch, captioner.write(memory, variant.options), strict=True):
                captions[variant.name][name] = best.text
    decoder.word_trust.copy_(trust)
    for name, written in captions.items():
        yield name, quick_cider(written, references)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="has flickr8k/ and coco-dev/ in it")
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    arguments = parser.parse_args()
    captioner = Captioner.load(arguments.model)
    for parameter in captioner.parameters():
        parameter.requires_grad_(False)
    samples, photographs = load_split(arguments.data, "val"), load_coco_dev(arguments.data)
    scores: dict[str, dict[str, float]] = {}
    learnt = load_split(arguments.data, "train")[:_TRAINING_IMAGES]
    for split, some in (("val", samples), ("coco-dev", photographs), ("train", learnt)):
        pictures = [(one.name, one.image) for one in some]
        for name, cider in measure(captioner, pictures, {one.name: one.captions for one in some}):
            scores.setdefault(name, {})[split] = round(cider, 4)
    print_table([{"": name, **by_split} for name, by_split in scores.items()])
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
