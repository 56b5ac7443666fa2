"""Whose heatmaps fall on what words name: captioners beside each other, on coco-dev's boxes.

    python benchmarks/pointing.py --data DIR FOLDER FOLDER …      # half a minute a small captioner on two cores

In: a data folder with coco-dev/, and folders that hold captioners, such as the best/ of runs that differ in their
attention; out: a table, and a JSON last line. The pointing game and the mass in the boxes over their area
(model/evaluation/grounding.py), for words of the captioners' own sentences and of people's.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from figures import print_table

from model.captioner import Captioner
from model.evaluation.evaluate import Evaluation
from model.options import DecodingOptions


def report(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print what `grounding` says of its own words and of people's, by name: the table and the JSON line."""
    rows = []
    for name, by in scores.items():
        row = {"": name}
        for whose in ("own", "people"):
            row[f"{whose}: pointing"] = f"{by[whose]['pointing']:.3f}"
            row[f"{whose}: mass/area"] = f"{by[whose]['mass_over_area']:.2f}"
        rows.append(row)
    print_table(rows)
    print(json.dumps(scores))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="has coco-dev/ in it")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="holds a captioner")
    arguments = parser.parse_args()
    report(
        {
            str(folder): Evaluation(Captioner.load(folder), arguments.data, DecodingOptions()).grounding()
            for folder in arguments.folders
        }
    )


if __name__ == "__main__":
    main()
