"""Which map of a word falls on what the word names: attention, what the detector sees, or both.

    python benchmarks/heatmaps.py --data DIR        # coco-dev; five minutes on two cores

In: a data folder with coco-dev/; out: a table, and a JSON last line. Each map is put to the pointing game and weighed
by its mass in the boxes (model/evaluation/grounding.py), for words of the captioner's own sentences and of people's.
"Both, smoothed" is what the answer has (AdaptiveMemory.credit).
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from pointing import report
from tqdm import tqdm

from model.caption import Attention, Caption
from model.captioner import SHIPPED, Captioner
from model.evaluation.captions import prepare
from model.evaluation.coco_dev import Photograph, load_coco_dev
from model.evaluation.grounding import grounding
from model.memory import AdaptiveMemory, with_neighbours
from model.options import DecodingOptions
from model.vocabulary import UNKNOWN, Vocabulary

_BATCH = 25


def with_grids(caption: Caption, grids: Sequence[Attention]) -> Caption:
    """The caption, its words with other attention."""
    return replace(
        caption, words=[replace(word, attention=grid) for word, grid in zip(caption.words, grids, strict=True)]
    )


def smoothed(caption: Caption) -> Caption:
    """Each cell with its neighbours."""
    grids = []
    for word in caption.words:
        cells = torch.tensor(word.attention.weights).view(word.attention.rows, -1)
        grids.append(replace(word.attention, weights=with_neighbours(cells).flatten().tolist()))
    return with_grids(caption, grids)


def seen(
    vocabulary: Vocabulary, memory: AdaptiveMemory, image: int, caption: Caption, looked: Caption | None = None
) -> Caption:
    """With what the detector sees of each word, the same everywhere of one that it does not know.

    With `looked`, times the attention that this one has.
    """
    everywhere, grids = torch.ones(memory.rows * memory.cols), []
    for number, word in enumerate(caption.words):
        token = vocabulary.token(word.text)
        cells = memory.shown(image, UNKNOWN if token is None else token)
        cells = everywhere if cells is None else cells
        if looked is not None:
            cells = cells * torch.tensor(looked.words[number].attention.weights)
        grids.append(replace(word.attention, weights=cells.tolist()))
    return with_grids(caption, grids)


@torch.inference_mode()
def mapped(captioner: Captioner, photographs: list[Photograph]) -> Iterator[tuple[str, Photograph, dict[str, Caption]]]:
    """Whose a caption is ("own" or "people"), its photograph, and the caption with each map, by its name."""

    def maps(memory: AdaptiveMemory, image: int, caption: Caption, plain: Caption) -> dict[str, Caption]:
        return {
            "attention": plain,
            "what is seen": seen(captioner.vocabulary, memory, image, caption),
            "both": seen(captioner.vocabulary, memory, image, caption, plain),
            "attention, smoothed": smoothed(plain),
            "both, smoothed": caption,
        }

    for start in tqdm(range(0, len(photographs), _BATCH), unit="batch"):
        batch = photographs[start : start + _BATCH]
        memory = captioner.encode(prepare(captioner, batch))
        assert isinstance(memory, AdaptiveMemory), "only a captioner with adaptive attention sees words"
        blind = replace(memory, seen_as=torch.full_like(memory.seen_as, memory.words.shape[2]))
        written = (captioner.write(one, DecodingOptions()) for one in (memory, blind))
        for image, ((caption, *_), (plain, *_)) in enumerate(zip(*written, strict=True)):
            yield "own", batch[image], maps(memory, image, caption, plain)
        for number in range(max(len(photograph.captions) for photograph in batch)):
            images = [image for image, photograph in enumerate(batch) if number < len(photograph.captions)]
            sentences = [batch[image].captions[number] for image in images]
            told = (captioner.score(one.select(images), sentences) for one in (memory, blind))
            for image, caption, plain in zip(images, *told, strict=True):
                yield "people", batch[image], maps(memory, image, caption, plain)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="has coco-dev/ in it")
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    arguments = parser.parse_args()
    photographs = [photograph for photograph in load_coco_dev(arguments.data) if photograph.boxes is not None]
    found: dict[str, dict[str, list[tuple[Photograph, Caption]]]] = defaultdict(lambda: defaultdict(list))
    for whose, photograph, maps in mapped(Captioner.load(arguments.model), photographs):
        for name, caption in maps.items():
            found[name][whose].append((photograph, caption))
    scores = {
        name: {whose: {key: round(score, 3) for key, score in grounding(some).items()} for whose, some in by.items()}
        for name, by in found.items()
    }
    report(scores)


if __name__ == "__main__":
    main()
