"""Tiny data sets with boxes: one object fills the upper half of a picture, another the lower half.

They have the folders that `wordlight evaluate` reads: flickr8k/ with human judgements, and coco-dev/ with boxes.
"""

import json
import tarfile
from itertools import permutations
from pathlib import Path

from support import tiny

# The object that each colour stands for. The words name classes of COCO.
THINGS = {"red": "dog", "green": "bird", "blue": "boat", "white": "bus"}


def captions(top: str, bottom: str) -> list[str]:
    """Return reference captions of `top` over `bottom`."""
    return [f"A {top} over a {bottom} .", f"A {top} above a {bottom} .", f"One {top} over one {bottom} ."]


def write_data(folder: Path) -> Path:
    """Write both data sets, and human judgements of the captions of flickr8k."""
    for name in ("flickr8k", "coco-dev"):
        (folder / name).mkdir()
    index, boxed = {}, {}
    with tarfile.open(folder / "coco-dev/images.tar", "w") as archive:
        for top, bottom in permutations(THINGS, 2):
            names = THINGS[top], THINGS[bottom]
            for split in ("train", "val", "test"):
                file = f"{split}-{names[0]}-{names[1]}.png"
                tiny.picture(top, bottom).save(folder / "flickr8k" / file)
                index[file] = {"split": split, "captions": captions(*names)}
            boxes = [[0, 0, 1, 0.5, names[0]], [0, 0.5, 1, 1, names[1]]]
            file = f"{names[0]}-{names[1]}.png"
            boxed[file] = {"captions": captions(*names), "boxes": boxes if names[0] != "bus" else None}
            tiny.picture(top, bottom).save(folder / file)
            archive.add(folder / file, file)
    (folder / "flickr8k/captions.json").write_text(json.dumps(index))
    (folder / "coco-dev/annotations.json").write_text(json.dumps(boxed))
    _write_judgements(folder / "flickr8k", [name for name, entry in index.items() if entry["split"] == "test"])
    return folder


def _write_judgements(folder: Path, files: list[str]) -> None:
    """Grade captions: each correct object adds 1, and 0.5 more in the correct place."""
    experts, crowd = [], []
    for image in files:
        for source in files:
            _, *shown = Path(image).stem.split("-")
            _, *named = Path(source).stem.split("-")
            grade = 1 + len({*shown} & {*named}) + (shown[0] == named[0]) * 0.5 + (shown[1] == named[1]) * 0.5
            experts.append(f"{image}\t{source}#0\t{int(grade)}\t{round(grade)}\t{int(grade)}")
            crowd.append(f"{image}\t{source}#1\t{(grade - 1) / 3:.3f}\t0\t0")
    (folder / "expert-annotations.txt").write_text("\n".join(experts) + "\n")
    (folder / "crowdflower-annotations.txt").write_text("\n".join(crowd) + "\n")
