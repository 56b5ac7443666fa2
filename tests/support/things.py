"""A tiny world of things with boxes: one thing fills the upper half of a picture and another the lower.

It makes the folders that `wordlight evaluate` reads, flickr8k/ with people's judgements and coco-dev/ with boxes, and
trains a real captioner on them.
"""

import json
import tarfile
from itertools import permutations
from pathlib import Path

from support import tiny

# What each colour of the tiny world is here: words that name a class of COCO's.
THINGS = {"red": "dog", "green": "bird", "blue": "boat", "white": "bus"}


def captions(top: str, bottom: str) -> list[str]:
    """What people say of `top` over `bottom`."""
    return [f"A {top} over a {bottom} .", f"A {top} above a {bottom} .", f"One {top} over one {bottom} ."]


def write_data(folder: Path) -> Path:
    """Both data sets, and what people think of the captions of Flickr8k's."""
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
    """A thing that is there is worth a grade and a half, in its place another half."""
    experts, crowd = [], []
    for image in files:
        for source in files:
            _, *there = Path(image).stem.split("-")
            _, *said = Path(source).stem.split("-")
            grade = 1 + len({*there} & {*said}) + (there[0] == said[0]) * 0.5 + (there[1] == said[1]) * 0.5
            experts.append(f"{image}\t{source}#0\t{int(grade)}\t{round(grade)}\t{int(grade)}")
            crowd.append(f"{image}\t{source}#1\t{(grade - 1) / 3:.3f}\t0\t0")
    (folder / "expert-annotations.txt").write_text("\n".join(experts) + "\n")
    (folder / "crowdflower-annotations.txt").write_text("\n".join(crowd) + "\n")
