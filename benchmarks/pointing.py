"""Whose heatmaps fall on what words name: captioners beside each other, on coco-dev's boxes.

    python benchmarks/pointing.py --data DIR FOLDER FOLDER …      # half a minute a small captioner on two cores

In: a data folder with coco-dev/, and folders that hold captioners, such as the best/ of runs that differ in their
attention; out: a table, and a JSON last line. The pointing game and the mass in the boxes over their area
(model/evaluation/grounding.py), for words of the captioners' own sentences and of people's.
"""

import argparse
import json
from pathlib import Path

from model.captioner import Captioner
from model.evaluation.captions import score_captions, write_captions
from model.evaluation.coco_dev import Photograph, load_coco_dev
from model.evaluation.grounding import grounding
from model.options import DecodingOptions


def measure(captioner: Captioner, photographs: list[Photograph], title: str) -> dict[str, dict[str, float]]:
    """What `grounding` says of its own captions and of people's."""
    own = write_captions(captioner, photographs, DecodingOptions(), title)
    told = score_captions(captioner, photographs, [photograph.captions for photograph in photographs], title)
    return {
        "own": grounding(list(zip(photographs, own, strict=True))),
        "people": grounding(
            [(photo, caption) for photo, captions in zip(photographs, told, strict=True) for caption in captions]
        ),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="has coco-dev/ in it")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="holds a captioner")
    arguments = parser.parse_args()
    photographs = [photograph for photograph in load_coco_dev(arguments.data) if photograph.boxes is not None]
    scores = {str(folder): measure(Captioner.load(folder), photographs, str(folder)) for folder in arguments.folders}
    print(f"{'':<45}{'own: pointing':>16}{'mass/area':>12}{'people: pointing':>19}{'mass/area':>12}")
    for name, by in scores.items():
        own, people = by["own"], by["people"]
        print(
            f"{name:<45}{own['pointing']:>16.3f}{own['mass_over_area']:>12.2f}"
            f"{people['pointing']:>19.3f}{people['mass_over_area']:>12.2f}"
        )
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
