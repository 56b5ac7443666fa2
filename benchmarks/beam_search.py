"""Our beam search, all images at once, against the usual one, image by image: same decoder, same result.

    python benchmarks/beam_search.py                    # pictures made on the spot; --data DIR: photographs
    python benchmarks/beam_search.py --device cuda

Both go from what the encoder has made of the pictures to captions with attention, spelt. The usual search
(benchmarks/usual_search.py) is measured in two forms: the beams of an image as a small batch, as the tutorials have
it, and each hypothesis by itself. Before anything is measured, its captions are compared with ours: where they differ
by more than rounding, the comparison is worth nothing, and the program fails. The last line is JSON.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from engines import ENGINES, add_options, load
from photographs import photographs
from timing import side_by_side, verdict
from usual_search import usual_search

from model.caption import Caption
from model.captioner import Captioner
from model.memory import Memory
from model.options import DecodingOptions
from model.spelling import Speller

_FORMS = {"beams of an image together": True, "every hypothesis alone": False}
_AIMS = {"cpu": 10.0, "cuda": 50.0}
_AIMED_AT = 32
# Two sentences may be equally good but for the last digits of a sum, which depend on what else is in the batch.
_ROUNDING = 1e-3


def main() -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    captioner = load(arguments.engine, arguments.model, arguments.device)
    options = DecodingOptions(beam_size=arguments.beam)
    pictures = photographs(arguments.data, max(arguments.batch))
    pixels = torch.stack([captioner.prepare(picture.image()) for picture in pictures])
    unlike, compared = different(captioner, captioner.encode(pixels), options)
    print(f"{compared} captions of the usual search, {unlike} unlike ours by more than rounding")
    if unlike:
        return 1
    print(
        f"{torch.get_num_threads()} threads, {arguments.beam} beams, medians of {arguments.rounds} rounds, ms a picture"
    )
    batches = []
    for batch in arguments.batch:
        memory = captioner.encode(pixels[:batch])
        tasks: dict[str, Callable[[], object]] = {"ours": partial(captioner.write, memory, options)}
        tasks |= {form: partial(usual, captioner, memory, options, together=so) for form, so in _FORMS.items()}
        seconds = side_by_side(tasks, arguments.rounds)
        ratios = {form: seconds[form].over(seconds["ours"]) for form in _FORMS}
        print(f"\nbatch {batch}")
        for name, taken in seconds.items():
            print(f"  {name:<32}{taken.scaled(1000 / batch)!s:>28}")
        for form, ratio in ratios.items():
            print(f"  ours is {ratio} times as fast as the usual search, {form}")
        aim = _AIMS.get(captioner.device.type)
        if aim and batch == _AIMED_AT:
            print("  " + verdict("times the usual search", ratios["beams of an image together"].median, aim))
        batches.append(
            {
                "batch": batch,
                "ms_a_picture": {name: taken.scaled(1000 / batch).figures() for name, taken in seconds.items()},
                "times_usual": {form: ratio.figures() for form, ratio in ratios.items()},
            }
        )
    figures = {"device": str(captioner.device), "threads": torch.get_num_threads(), "beams": arguments.beam}
    print(json.dumps({"benchmark": "beam_search", **figures, "compared": compared, "batches": batches}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto", choices=ENGINES, help="of our captioner (default: auto)")
    add_options(parser)
    parser.add_argument("--beam", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="default: 1 8 32")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="default: 9")
    return parser


def usual(captioner: Captioner, memory: Memory, options: DecodingOptions, *, together: bool) -> Sequence[Caption]:
    """What the usual search writes, spelt as ours is."""
    found = usual_search(
        captioner.decoder,
        memory,
        beams=options.beam_size,
        max_words=options.max_words,
        repeatable=options.repeatable,
        together=together,
    )
    speller = Speller(captioner.vocabulary, memory)
    return [speller.caption(image, hypothesis) for image, hypothesis in enumerate(found)]


def different(captioner: Captioner, memory: Memory, options: DecodingOptions) -> tuple[int, int]:
    """How many captions of the usual search, in both forms, are not ours, and how many were compared.

    Another sentence whose score is the same but for rounding counts as ours; its log-probabilities must be its own.
    """
    ours = [best for best, *_ in captioner.write(memory, options)]
    unlike = 0
    for together in _FORMS.values():
        for mine, theirs in zip(ours, usual(captioner, memory, options, together=together), strict=True):
            if mine.text == theirs.text:
                words = zip(mine.words, theirs.words, strict=True)
                apart = [abs(mine.logprob - theirs.logprob), *(abs(a.logprob - b.logprob) for a, b in words)]
            else:
                apart = [abs(_score(mine, options) - _score(theirs, options))]
            unlike += max(apart) > _ROUNDING
    return unlike, len(ours) * len(_FORMS)


def _score(caption: Caption, options: DecodingOptions) -> float:
    """What hypotheses are ranked by."""
    length = min(len(caption.words) + 1, options.max_words)  # <end> counts, where there is room for it
    return caption.logprob / float(length**0.7)


if __name__ == "__main__":
    sys.exit(main())
