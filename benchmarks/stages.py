"""Time of each stage of captioning in several engines, and how well their captions agree.

    python benchmarks/stages.py --engine eager --engine openvino --engine openvino-bf16 --data DIR

All engines run in turn; the first is the reference. Stages, in ms a picture: decode a JPEG file; prepare (resize);
the encoder alone (the bare network); encode (everything before the first word); write with three beams, greedily,
and as the consensus of twenty beams. "All" is prepare, encode and three beams, as `Captioner.caption` does them.

Then the captions of each engine are compared with the reference's: the share of equal captions, the largest difference
of a log-probability among those and, for a data set's split val, CIDEr on our own tokens. The last line is JSON.
"""

import argparse
from collections.abc import Callable, Sequence

import torch
from engines import ENGINES, REFERENCE, add_options, encoder_alone, load
from figures import Sample, finish, side_by_side
from photographs import Photograph, photographs

from model.decoding.caption import Caption
from model.decoding.options import DecodingOptions, Strategy
from model.runtime.captioner import Captioner
from model.training.cider import quick_cider

_BEAMS, _GREEDY = DecodingOptions(), DecodingOptions(strategy=Strategy.GREEDY)
_CONSENSUS = DecodingOptions(strategy=Strategy.CONSENSUS, beam_size=20)
_STAGES = ("decode", "prepare", "encoder alone", "encode", "beam 3", "greedy", "consensus", "all")
_AGREEMENT_BATCH = 32


def main() -> None:
    """Measure and print."""
    arguments = _parser().parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    engines = list(dict.fromkeys(arguments.engine or [REFERENCE, "auto"]))
    captioners = {engine: load(engine, arguments.model, arguments.device) for engine in engines}
    pictures = photographs(arguments.data, max(*arguments.batch, arguments.pictures))
    print(f"{torch.get_num_threads()} threads; medians of {arguments.rounds} rounds; ms a picture, rates a second\n")
    batches = []
    for batch in arguments.batch:
        some = (pictures * batch)[:batch]
        seconds = side_by_side(
            {
                (engine, stage): task
                for engine, captioner in captioners.items()
                for stage, task in tasks(engine, captioner, some).items()
            },
            arguments.rounds,
        )
        batches.append(report(engines, batch, seconds))
    agreement = report_agreement(captioners, pictures[: arguments.pictures]) if arguments.pictures else {}
    figures = {"threads": torch.get_num_threads(), "engines": engines, "batches": batches, "agreement": agreement}
    finish("stages", figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="repeatable (default: eager, auto)")
    add_options(parser)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="default: 1 8 32")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="default: 9")
    parser.add_argument(
        "--pictures", type=int, default=1000, metavar="N", help="whose captions are compared (default 1000)"
    )
    return parser


def tasks(engine: str, captioner: Captioner, pictures: Sequence[Photograph]) -> dict[str, Callable[[], object]]:
    """Return one task for each stage, each on the output of the stage before."""
    images = [picture.image() for picture in pictures]
    pixels = torch.stack([captioner.prepare(image) for image in images])
    encoded = captioner.encode(pixels)
    alone = encoder_alone(engine, captioner, len(pictures))

    def finished(task: Callable[[], object]) -> Callable[[], object]:
        """Wait until the GPU is done, too."""

        def run() -> None:
            task()
            if captioner.device.type == "cuda":
                torch.cuda.synchronize()

        return run

    return {
        "decode": lambda: [picture.image() for picture in pictures],
        "prepare": lambda: torch.stack([captioner.prepare(image) for image in images]),
        "encoder alone": finished(lambda: alone(pixels)),
        "encode": finished(lambda: captioner.encode(pixels)),
        "beam 3": lambda: captioner.generate(encoded, _BEAMS),
        "greedy": lambda: captioner.generate(encoded, _GREEDY),
        "consensus": lambda: captioner.generate(encoded, _CONSENSUS),
        "all": lambda: captioner.caption(images, _BEAMS),
    }


def report(engines: Sequence[str], batch: int, seconds: dict[tuple[str, str], Sample]) -> dict[str, object]:
    """Print and return the times of one batch size."""
    print(f"batch {batch:<10}" + "".join(f"{stage:>24}" for stage in _STAGES))
    found: dict[str, object] = {}
    for engine in engines:
        of_stage = {stage: seconds[engine, stage] for stage in _STAGES}
        milliseconds = {stage: taken.scaled(1000 / batch) for stage, taken in of_stage.items()}
        print(f"{engine:<16}" + "".join(f"{taken!s:>24}" for taken in milliseconds.values()))
        whole = of_stage["all"]
        from_files = Sample(tuple(map(sum, zip(of_stage["decode"].values, whole.values, strict=True))))
        compared = {
            "of_encoder_alone": of_stage["encoder alone"].over(whole),
            "of_encode": of_stage["encode"].over(whole),
            "times_reference": seconds[engines[0], "all"].over(whole),
        }
        found[engine] = {
            "ms_a_picture": {stage: taken.figures() for stage, taken in milliseconds.items()},
            "ceiling_a_second": of_stage["encoder alone"].rate(batch).figures(),
            "captions_a_second": whole.rate(batch).figures(),
            "captions_a_second_from_files": from_files.rate(batch).figures(),
            **{name: ratio.figures() for name, ratio in compared.items()},
        }
        print(
            f"  {whole.rate(batch)} captions/s, {from_files.rate(batch)} from JPEG files; "
            f"{compared['of_encoder_alone']} of the encoder alone, {compared['of_encode']} of encode, "
            f"{compared['times_reference']} times {engines[0]}"
        )
    print()
    return {"batch": batch, "engines": found}


def report_agreement(captioners: dict[str, Captioner], pictures: Sequence[Photograph]) -> dict[str, object]:
    """Print and return how the captions of each engine agree with those of the first."""
    (first, reference), *others = ((engine, _captions(captioner, pictures)) for engine, captioner in captioners.items())
    people = {picture.name: picture.captions for picture in pictures if picture.captions}
    ciders = {engine: _cider(captions, people) for engine, captions in [(first, reference), *others]} if people else {}
    print(f"captions of {len(pictures)} pictures, compared with {first}'s")
    compared: dict[str, dict[str, float]] = {}
    for engine, captions in others:
        pairs = [
            (captions[name], caption) for name, caption in reference.items() if captions[name].text == caption.text
        ]
        share = len(pairs) / len(pictures)
        apart = max((_apart(*pair) for pair in pairs), default=0.0)
        compared[engine] = {"same": round(share, 4), "largest_difference": apart}
        print(f"  {engine}: {share:.1%} the same; of those, log-probabilities at most {apart:.2g} apart")
        if ciders:
            change = abs(ciders[engine] - ciders[first])
            compared[engine]["cider_change"] = round(change, 4)
            print(f"  {engine}: CIDEr {ciders[engine]:.4f}, a change of {change:.4f}")
    if ciders:
        print(f"  {first}: CIDEr {ciders[first]:.4f}")
    return {"pictures": len(pictures), "cider": ciders, "engines": compared}


def _captions(captioner: Captioner, pictures: Sequence[Photograph]) -> dict[str, Caption]:
    """Return the best caption of each picture by name."""
    captions: dict[str, Caption] = {}
    for start in range(0, len(pictures), _AGREEMENT_BATCH):
        some = pictures[start : start + _AGREEMENT_BATCH]
        written = captioner.caption([picture.image() for picture in some], _BEAMS)
        captions |= {picture.name: best for picture, (best, *_) in zip(some, written, strict=True)}
    return captions


def _apart(one: Caption, other: Caption) -> float:
    """Return the largest difference of a log-probability, of a word or of the caption."""
    words = zip(one.words, other.words, strict=True)
    return max(abs(one.logprob - other.logprob), *(abs(mine.logprob - theirs.logprob) for mine, theirs in words))


def _cider(captions: dict[str, Caption], people: dict[str, list[str]]) -> float:
    return round(quick_cider({name: caption.text for name, caption in captions.items()}, people), 4)


if __name__ == "__main__":
    main()
