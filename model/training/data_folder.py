"""A data folder, written: what model/training/dataset.py reads. In: pictures, captions; out: tar files and an index.

Pictures are written a tar file at a time, each complete or not there at all, and `captions.json` last of all: so an
import that was killed goes on behind its last tar file, and a folder with an index is a whole one. It must not know how
data sets are published, nor how pictures are decoded.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from model.training.dataset import DatasetUnusable
from model.training.picture_files import PictureFiles
from model.training.published import SPLITS, Listed

_INDEX, _PLAN = "captions.json", "import.json"


class PictureUnusable(Exception):
    """One picture cannot be taken in; the message says why."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of an import."""

    pictures: dict[str, int]  # by split
    left_out: int


def write_data_folder(
    listed: Sequence[Listed],
    places: Mapping[str, PictureFiles],
    folder: Path,
    *,
    side: int,
    stored: Callable[[bytes], bytes],
    pictures_a_file: int,
    tell: Callable[[int, int], None],
    complain: Callable[[str, str], None],
) -> Written:
    """Write the data folder, or what is missing of it. Raises DatasetUnusable.

    `stored` makes of a picture's bytes those to keep, `side` pixels wide and high, or raises PictureUnusable; such a
    picture is left out, after `complain` was told its file and why. `tell` hears how many of how many are done.
    """
    names = _checked(listed)
    if (folder / _INDEX).is_file() and not (folder / _PLAN).is_file():
        raise DatasetUnusable(f"{folder} holds another data set: name a folder that is empty")
    folder.mkdir(parents=True, exist_ok=True)
    _keep_to_the_plan(folder, names, listed, side, pictures_a_file)
    taken: set[str] = set()
    named = list(zip(names, listed, strict=True))
    for number, start in enumerate(range(0, len(listed), pictures_a_file)):
        path = folder / f"images-{number:05}.tar"
        if not path.is_file():
            _write_tar(path, named[start : start + pictures_a_file], places, stored, complain)
        with tarfile.open(path) as archive:
            taken.update(archive.getnames())
        tell(min(start + pictures_a_file, len(listed)), len(listed))
    index = {name: _entry(one) for name, one in named if name in taken}
    pictures = {split: sum(entry["split"] == split for entry in index.values()) for split in SPLITS}
    if not (pictures["train"] and pictures["val"]):
        raise DatasetUnusable(f"no picture of {'val' if pictures['train'] else 'train'} could be read: see above")
    _replace(folder / _INDEX, json.dumps(index, indent=0, ensure_ascii=False).encode())
    return Written(pictures, len(listed) - len(index))


def _entry(one: Listed) -> dict[str, Any]:
    labels = {} if one.labels is None else {"labels": one.labels}
    return {"split": one.split, "captions": one.captions, **labels}


def _checked(listed: Sequence[Listed]) -> list[str]:
    """The names that the pictures get: those of their files, without the folder."""
    if not listed:
        raise DatasetUnusable("there are no pictures in the list")
    for one in listed:
        path = PurePosixPath(one.file)
        if path.is_absolute() or ".." in path.parts or "\\" in one.file:
            raise DatasetUnusable(f"{one.file!r} is not the name of a file in the folder of pictures")
        if one.split not in SPLITS:
            raise DatasetUnusable(f"{one.file} is in the split {one.split!r}, and not in one of {', '.join(SPLITS)}")
        if not any(one.captions):
            raise DatasetUnusable(f"{one.file} has no caption")
    for split in ("train", "val"):
        if not any(one.split == split for one in listed):
            raise DatasetUnusable(f"no picture is in {split}: training needs both train and val")
    # With its folder where two have the same name.
    short = [PurePosixPath(one.file).name for one in listed]
    names = short if len(set(short)) == len(short) else [one.file for one in listed]
    if len(set(names)) < len(names):
        raise DatasetUnusable(f"{next(name for name in names if names.count(name) > 1)} is listed twice")
    return names


def _keep_to_the_plan(
    folder: Path, names: Sequence[str], listed: Sequence[Listed], side: int, pictures_a_file: int
) -> None:
    """An import that was begun with other captions, pictures or settings is not gone on with."""
    rows = [[name, one.place, one.file, *_entry(one).values()] for name, one in zip(names, listed, strict=True)]
    digest = hashlib.sha256(json.dumps([side, pictures_a_file, rows]).encode()).hexdigest()
    plan = folder / _PLAN
    if plan.is_file():
        if json.loads(plan.read_bytes()).get("sha256") != digest:
            raise DatasetUnusable(f"{folder} holds an import of something else: name a folder that is empty")
        return
    if any(folder.glob("*.tar")):
        raise DatasetUnusable(f"{folder} holds other archives: name a folder that is empty")
    _replace(plan, json.dumps({"sha256": digest, "pictures": len(listed), "side": side}).encode())


def _write_tar(
    path: Path,
    part: Sequence[tuple[str, Listed]],
    places: Mapping[str, PictureFiles],
    stored: Callable[[bytes], bytes],
    complain: Callable[[str, str], None],
) -> None:
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, one in part:
                try:
                    data = stored(places[one.place].read(one.file))
                except (OSError, PictureUnusable) as error:
                    reason = error.strerror if isinstance(error, OSError) else None
                    complain(one.file, reason or str(error))
                    continue
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _replace(path: Path, data: bytes) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(data)
    unfinished.replace(path)
