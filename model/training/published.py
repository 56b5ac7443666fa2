"""Data sets as their authors publish them: COCO, Flickr8k, Karpathy's splits, and a list of one's own.

In: the published files; out: which picture has which captions, and in which split. It must not read pictures.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from model.training.dataset import DatasetUnusable

SPLITS = ("train", "val", "test")
# Of a list that names no splits: a tenth each, the rest is for training.
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
    """One picture as a data set lists it."""

    place: str  # a folder or an archive
    file: str  # in it
    split: str
    captions: list[str]
    labels: list[str] | None = None  # the kinds of things that people found in it; None: nobody looked


def read_coco(folder: Path, year: int) -> list[Listed]:
    """COCO as it is downloaded: `annotations/` and the pictures, unpacked or as ZIP archives. Raises DatasetUnusable.

    Nobody has published captions of its `test`: half of its `val` stands for that, chosen by the pictures' names. Where
    its boxes lie beside the captions (`instances_*.json`), their kinds are the labels.
    """
    listed = []
    for split in ("train", "val"):
        path = folder / "annotations" / f"captions_{split}{year}.json"
        document = _json(path)
        place = _folder_or_archive(folder, f"{split}{year}")
        boxes = folder / "annotations" / f"instances_{split}{year}.json"
        labels = _coco_labels(boxes) if boxes.is_file() else None
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
    """The kinds of things of which boxes were drawn, by picture."""
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
    """Flickr8k as it was published: captions and splits as text, and the pictures. Raises DatasetUnusable."""
    text = folder / "Flickr8k_text"
    text = text if text.is_dir() else folder
    # "Flicker8k" is how its authors have spelt it.
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
    """A `dataset_flickr8k.json`, `dataset_flickr30k.json` or `dataset_coco.json`. Raises DatasetUnusable.

    Its `restval` is for training, as everybody uses it.
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
    """A list of one's own. Raises DatasetUnusable.

    CSV with a header, or JSON Lines, with `file`, `caption` and, if it likes, `split`; a picture with several captions
    stands in several lines, or in JSON Lines has `captions`. Without splits a tenth of the pictures becomes `val` and
    another `test`, chosen by their names, so that they stay what they are when others are added.
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
            raise DatasetUnusable(f"{where}: {file} is in {known} already, and cannot be in {split} as well")
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
    """The name of what holds the pictures: the folder if there is one, else the archive."""
    return name if (folder / name).is_dir() else f"{name}.zip"


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _text(path: Path) -> str:
    """A text file without its byte order mark."""
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
    return int.from_bytes(hashlib.sha256(PurePosixPath(name).as_posix().encode()).digest()[:4])
