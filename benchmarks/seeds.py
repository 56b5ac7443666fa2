"""What a recipe gives, rather than one run of it: scores of runs that differ in their seed, and their mean.

    python benchmarks/seeds.py --data DIR --split test FOLDER FOLDER …    # two minutes a captioner on two cores

In: a data folder and folders that hold captioners, such as the best/ of runs; out: a table, and a JSON last line. The
interval is a 95 % bootstrap over images of what the captioners get for each on average; the standard deviation is that
between captioners. Scores are those of `wordlight evaluate`: beam 3, all references, PTB tokeniser (needs Java).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from figures import print_table

from model.captioner import Captioner
from model.evaluation.captions import write_captions
from model.evaluation.coco_dev import load_named
from model.evaluation.scores import bootstrap_interval, coco_ciders, coco_scores, require_java
from model.options import DecodingOptions

_SHOWN = ("bleu4", "meteor", "rouge_l", "cider")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="has the split in it")
    parser.add_argument("--split", default="val", help="of Flickr8k, or coco-dev")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="holds a captioner")
    arguments = parser.parse_args()
    require_java()
    samples = load_named(arguments.data, arguments.split)
    references = {sample.name: sample.captions for sample in samples}
    scores, ciders = [], []
    for folder in arguments.folders:
        captions = write_captions(Captioner.load(folder), samples, DecodingOptions(), str(folder))
        texts = {sample.name: caption.text for sample, caption in zip(samples, captions, strict=True)}
        scores.append(coco_scores(texts, references))
        ciders.append(coco_ciders(texts, references))
    low, high = bootstrap_interval(np.mean(ciders, axis=0))
    mean = {name: float(np.mean([score[name] for score in scores])) for name in _SHOWN}
    deviation = {name: float(np.std([score[name] for score in scores], ddof=1)) for name in _SHOWN if scores[1:]}
    rows = [*zip(map(str, arguments.folders), scores, strict=True), ("mean", mean), ("standard deviation", deviation)]
    print_table([{"": name, **{score: round(row[score], 3) for score in _SHOWN}} for name, row in rows if row])
    print(f"CIDEr of the mean, over images: {low:.3f} to {high:.3f}")
    result = {"split": arguments.split, "mean": mean, "deviation": deviation, "cider_low": low, "cider_high": high}
    print(json.dumps({**result, "captioners": dict(zip(map(str, arguments.folders), scores, strict=True))}))


if __name__ == "__main__":
    main()
