"""Read data sets as their authors publish them: COCO, Flickr8k, Karpathy's splits, and a list of your own.

The readers list the pictures with their captions and splits. PictureFiles reads the pictures themselves.
"""

import csv
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from model.training.dataset import DatasetUnusable

SPLITS = ("train", "val", "test")
# For a list without splits: a tenth of the pictures each. The rest is for training.
_TENTHS = {0: "val", 1: "test"}
_FLICKR8K_SPLITS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
FLICKR8K_JUDGEMENTS = {
    "ExpertAnnotations.txt": "expert-annotations.txt",
    "CrowdFlowerAnnotations.txt": "crowdflower-annotations.txt",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """One picture in a data set's list."""

    place: str  # a folder or an archive
    file: str  # in it
    split: str
    captions: list[str]
    labels: list[str] | None = None  # the kinds of things that people found in it; None: not labelled


def read_coco(folder: Path, year: int) -> list[Listed]:
    """Read COCO as downloaded: `annotations/`, and the pictures, unpacked or as ZIP archives. Raises DatasetUnusable.

    COCO's `test` has no published captions. Half of its `val`, chosen by the pictures' names, becomes `test`. If
    `instances_*.json` lies beside the captions, the categories of its boxes are the labels.
    """
    listed = []
    for split in ("train", "val"):
        path = folder / "annotations" / f"captions_{split}{year}.json"
        document = _json(path)
        place = _folder_or_archive(folder, f"{split}{year}")
        instances = folder / "annotations" / f"instances_{split}{year}.json"
        labels = _coco_labels(instances) if instances.is_file() else None
        captions: dict[int, list[str]] = {}
        try:
            for annotation in document["annotations"]:
                captions.setdefault(annotation["image_id"], []).append(_caption(annotation["caption"]))
            for image in document["images"]:
                name, said = str(image["file_name"]), captions.get(image["id"], [])
                half = split == "val" and _hashed(name) % 2
                found = None if labels is None else sorted(labels.get(image["id"], ()))
                listed.append(Listed(place, name, "test" if half else split, said, found))
        except (KeyError, TypeError, AttributeError) as error:
            raise DatasetUnusable(f"{path} is not a file of COCO's captions: {error!r}") from error
    return listed


def _coco_labels(path: Path) -> dict[int, set[str]]:
    """Read the categories of the boxes of each picture, by its number. Raises DatasetUnusable."""
    document = _json(path)
    labels: dict[int, set[str]] = {}
    try:
        names = {category["id"]: str(category["name"]) for category in document["categories"]}
        for annotation in document["annotations"]:
            labels.setdefault(annotation["image_id"], set()).add(names[annotation["category_id"]])
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetUnusable(f"{path} is not a file of COCO's boxes: {error!r}") from error
    return labels


def read_flickr8k(folder: Path) -> list[Listed]:
    """Read Flickr8k as published: captions and splits as text, and the pictures. Raises DatasetUnusable."""
    text = folder / "Flickr8k_text"
    text = text if text.is_dir() else folder
    # "Flicker8k" is its authors' spelling.
    spellings = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images")
    place = next((found for found in spellings if (folder / found).is_dir()), "") or _folder_or_archive(
        folder, "Flickr8k_Dataset"
    )
    captions: dict[str, list[str]] = {}
    path = text / "Flickr8k.token.txt"
    for number, line in enumerate(_lines(path), 1):
        name, tab, caption = line.partition("\t")
        file, mark, _ = name.rpartition("#")
        if not (tab and mark):
            raise DatasetUnusable(f"{path}, line {number}: no file#number, tab and caption")
        captions.setdefault(file, []).append(_caption(caption))
    listed = []
    for split, file in _FLICKR8K_SPLITS.items():
        for name in _lines(text / file):
            if name not in captions:
                raise DatasetUnusable(f"{path} has no captions of {name}, which {file} names")
            listed.append(Listed(place, name, split, captions[name]))
    return listed


def read_karpathy(index: Path) -> list[Listed]:
    """Read a `dataset_flickr8k.json`, `dataset_flickr30k.json` or `dataset_coco.json`. Raises DatasetUnusable.

    Its `restval` becomes part of `train`, as is usual.
    """
    listed = []
    try:
        for image in _json(index)["images"]:
            split = "train" if image["split"] == "restval" else str(image["split"])
            file = "/".join(filter(None, (image.get("filepath"), image["filename"])))
            listed.append(Listed("", file, split, [_caption(sentence["raw"]) for sentence in image["sentences"]]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetUnusable(f"{index} is not one of Karpathy's files: {error!r}") from error
    return listed


def read_list(path: Path) -> list[Listed]:
    """Read a list of your own: CSV with a header, or JSON Lines. Raises DatasetUnusable.

    The columns are `file`, `caption` and, optionally, `split`. A picture with several captions has several lines or, in
    JSON Lines, `captions`. Without splits a tenth of the pictures becomes `val` and another tenth `test`, chosen by
    name, so that a picture keeps its split when others are added.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        file, split = row.get("file"), row.get("split")
        said = row.get("captions", [row.get("caption")])
        if not isinstance(file, str) or not file.strip():
            raise DatasetUnusable(f"{where}: no file")
        if not isinstance(said, list) or not said or not all(isinstance(one, str) and one.strip() for one in said):
            raise DatasetUnusable(f"{where}: no caption of {file}")
        split = split or _TENTHS.get(_hashed(file) % 10, "train")
        if split not in SPLITS:
            raise DatasetUnusable(f"{where}: the split is {split!r}, and not one of {', '.join(SPLITS)}")
        known, captions = found.setdefault(file, (split, []))
        if known != split:
            raise DatasetUnusable(f"{where}: {file} is in {known} already, and cannot be in {split} too")
        captions.extend(_caption(one) for one in said)
    return [Listed("", file, split, captions) for file, (split, captions) in found.items()]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(_text(path), newline=""))
        if missing := {"file", "caption"} - set(reader.fieldnames or ()):
            raise DatasetUnusable(f"{path} has no column {' or '.join(sorted(missing))} in its first line")
        for row in reader:
            yield reader.line_num, row
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        for number, line in enumerate(_text(path).splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DatasetUnusable(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise DatasetUnusable(f"{path}, line {number}: not an object")
            yield number, row
    else:
        raise DatasetUnusable(f"{path}: a list ends in .csv or .jsonl")


def _folder_or_archive(folder: Path, name: str) -> str:
    """Return the name of the folder of pictures or, if there is no folder, of the archive."""
    return name if (folder / name).is_dir() else f"{name}.zip"


def _lines(path: Path) -> list[str]:
    """Read the non-empty lines of a text file."""
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _text(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetUnusable(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetUnusable(f"{path} is not UTF-8: {error}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetUnusable(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetUnusable(f"{path} is not JSON: {error}") from error


def _caption(text: str) -> str:
    return " ".join(text.split())


def _hashed(name: str) -> int:
    """Return a number from 0 to 2 ** 32 - 1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(PurePosixPath(name).as_posix().encode()).digest()[:4])


class PictureFiles:
    """The files of a folder, or of a ZIP archive, in any folder of it."""

    def __init__(self, place: Path) -> None:
        """Raises DatasetUnusable."""
        self.place = place
        self._archive: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        if place.is_dir():
            return
        try:
            self._archive = zipfile.ZipFile(place)
        except OSError as error:
            raise DatasetUnusable(f"no pictures: {place}: {error.strerror or error}") from error
        except zipfile.BadZipFile as error:
            raise DatasetUnusable(f"{place} is neither a folder nor a ZIP archive: {error}") from error
        for member in self._archive.infolist():
            # macOS adds a folder with a "._" file for each file.
            if not member.is_dir() and not member.filename.startswith("__MACOSX/"):
                self._members[PurePosixPath(member.filename).name] = member
                self._members[member.filename] = member

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._archive is not None:
            self._archive.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members if self._archive is not None else (self.place / name).is_file()

    def read(self, name: str) -> bytes:
        """Read a file. Raises OSError if it is missing or unreadable."""
        if self._archive is None:
            return (self.place / name).read_bytes()
        try:
            return self._archive.read(self._members[name])
        except KeyError:
            raise FileNotFoundError(2, f"not in {self.place}", name) from None
        # Damaged, encrypted, or compressed by a rare method.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise OSError(5, f"cannot be read from {self.place}: {error}", name) from error
