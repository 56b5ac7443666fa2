"""The pictures of COCO that a captioner is measured on and never trained on. In: a data folder; out: photographs.

The folder holds `coco-dev/annotations.json` = {file: {"captions": [...], "boxes": [[left, top, right, bottom, class],
...] or null}}, with edges as fractions of width and height, and the images in `coco-dev/images.tar`. It must not know
of captioners.
"""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.evaluation.boxes import Box
from model.training.dataset import DatasetUnusable, Sample, load_split

NAME = "coco-dev"


@dataclass(frozen=True, slots=True)
class Photograph(Sample):
    """A sample, and the boxes around everything in it that is of one of COCO's 80 classes; None: nobody drew any."""

    boxes: list[Box] | None


def load_named(data: Path, split: str) -> Sequence[Sample]:
    """A split of the data set or, by the name of "coco-dev", all photographs. Raises DatasetUnusable."""
    return load_coco_dev(data) if split == NAME else load_split(data, split)


def load_coco_dev(data: Path) -> list[Photograph]:
    """All photographs, in the order of annotations.json. Raises DatasetUnusable."""
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
                None if entry["boxes"] is None else [Box(*box) for box in entry["boxes"]],
            )
            for name, entry in index.items()
        ]
    except FileNotFoundError as error:
        raise DatasetUnusable(f"no {error.filename}: --data must name the folder that has {NAME}/ in it") from error
    except tarfile.TarError as error:
        raise DatasetUnusable(f"{archive_path} is damaged: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetUnusable(f"{index_path} does not describe the pictures of {archive_path}: {error!r}") from error
