"""COCO's photographs with boxes. Captioners are measured on them, and never trained on them.

The data folder holds `coco-dev/annotations.json` = {file: {"captions": [...], "boxes": [[left, top, right, bottom,
class], ...] or null}}, with edges as fractions of width and height, and the images in `coco-dev/images.tar`.
"""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.training.dataset import DatasetUnusable, Sample, load_split

NAME = "coco-dev"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle around one thing of the class `name`. Edges are fractions of the picture's width and height."""

    left: float
    top: float
    right: float
    bottom: float
    name: str

    @property
    def area(self) -> float:
        """The area as a fraction of the picture's."""
        return (self.right - self.left) * (self.bottom - self.top)

    def holds(self, x: float, y: float) -> bool:
        """Return whether the point is in the box."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom


@dataclass(frozen=True, slots=True)
class Photograph(Sample):
    """A sample with boxes around all things of COCO's 80 classes. None: the photograph has no annotation."""

    boxes: list[Box] | None = field(kw_only=True)


def load_named(data: Path, split: str) -> Sequence[Sample]:
    """Load a split of the data set or, with the name "coco-dev", all photographs. Raises DatasetUnusable."""
    return load_coco_dev(data) if split == NAME else load_split(data, split)


def load_coco_dev(data: Path) -> list[Photograph]:
    """Load all photographs in the order of annotations.json. Raises DatasetUnusable."""
    folder = data / NAME
    index_path, archive_path = folder / "annotations.json", folder / "images.tar"
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
        with tarfile.open(archive_path) as archive:
            encoded = {member.name: file.read() for member in archive if (file := archive.extractfile(member))}
        return [
            Photograph(
                name,
                encoded[name],
                list(entry["captions"]),
                boxes=None if entry["boxes"] is None else [Box(*box) for box in entry["boxes"]],
            )
            for name, entry in index.items()
        ]
    except FileNotFoundError as error:
        raise DatasetUnusable(f"no {error.filename}: --data must name the folder that has {NAME}/ in it") from error
    except tarfile.TarError as error:
        raise DatasetUnusable(f"{archive_path} is damaged: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetUnusable(f"{index_path} does not describe the pictures of {archive_path}: {error!r}") from error
