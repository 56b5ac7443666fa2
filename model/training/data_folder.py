"""Write a data folder, which model/training/dataset.py reads.

Tar files of pictures are written one by one, each atomically, and `captions.json` is written last. So an import that
was killed resumes after its last tar file, and a folder with an index is complete.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from model.files import whole_file, write_whole
from model.training.dataset import DatasetUnusable
from model.training.published import SPLITS, Listed, PictureFiles

_INDEX, _PLAN = "captions.json", "import.json"


class PictureUnusable(Exception):
    """A picture cannot be used. The message says why."""


@dataclass(frozen=True, slots=True)
class Written:
    """The result of an import."""

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
    """Write the data folder, or the parts that are missing. Raises DatasetUnusable.

    `stored` converts the bytes of a picture to those that are kept, `side` pixels wide and high, or raises
    PictureUnusable. Such a picture is left out, and `complain` is called with its file and the reason. `tell` is called
    with the number of pictures that are done and the total.
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
    write_whole(folder / _INDEX, json.dumps(index, indent=0, ensure_ascii=False).encode())
    return Written(pictures, len(listed) - len(index))


def _entry(one: Listed) -> dict[str, Any]:
    """Return the entry of a picture in the index."""
    labels = {} if one.labels is None else {"labels": one.labels}
    return {"split": one.split, "captions": one.captions, **labels}


def _checked(listed: Sequence[Listed]) -> list[str]:
    """Check the list. Returns the names of the pictures: those of their files, without the folder."""
    if not listed:
        raise DatasetUnusable("there are no pictures in the list")
    for one in listed:
        path = PurePosixPath(one.file)
        if path.is_absolute() or ".." in path.parts or "\\" in one.file:
            raise DatasetUnusable(f"{one.file!r} is not the name of a file in the folder of pictures")
        if one.split not in SPLITS:
            raise DatasetUnusable(f"{one.file} is in the split {one.split!r}, which is none of {', '.join(SPLITS)}")
        if not any(one.captions):
            raise DatasetUnusable(f"{one.file} has no caption")
    for split in ("train", "val"):
        if not any(one.split == split for one in listed):
            raise DatasetUnusable(f"no picture is in {split}: training needs both train and val")
    # With the folder if two files have the same name.
    short = [PurePosixPath(one.file).name for one in listed]
    names = short if len(set(short)) == len(short) else [one.file for one in listed]
    if len(set(names)) < len(names):
        raise DatasetUnusable(f"{next(name for name in names if names.count(name) > 1)} is listed twice")
    return names


def _keep_to_the_plan(
    folder: Path, names: Sequence[str], listed: Sequence[Listed], side: int, pictures_a_file: int
) -> None:
    """Refuse to resume an import that was started with other captions, pictures or settings."""
    rows = [[name, one.place, one.file, *_entry(one).values()] for name, one in zip(names, listed, strict=True)]
    digest = hashlib.sha256(json.dumps([side, pictures_a_file, rows]).encode()).hexdigest()
    plan = folder / _PLAN
    if plan.is_file():
        if json.loads(plan.read_bytes()).get("sha256") != digest:
            raise DatasetUnusable(f"{folder} holds an import of something else: name a folder that is empty")
        return
    if any(folder.glob("*.tar")):
        raise DatasetUnusable(f"{folder} holds other archives: name a folder that is empty")
    write_whole(plan, json.dumps({"sha256": digest, "pictures": len(listed), "side": side}).encode())


def _write_tar(
    path: Path,
    part: Sequence[tuple[str, Listed]],
    places: Mapping[str, PictureFiles],
    stored: Callable[[bytes], bytes],
    complain: Callable[[str, str], None],
) -> None:
    with whole_file(path) as new, tarfile.open(new, mode="w") as archive:
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
