"""Read a data folder: images with their captions.

The folder holds `captions.json` = {file: {"split": ..., "captions": [...]}} and the images, loose or in *.tar files.
A folder that contains such a folder as `flickr8k/` works too.
"""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image


class DatasetUnusable(Exception):
    """The folder lacks something. The message is one line that says what."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded image and the captions that people wrote for it."""

    name: str
    encoded: bytes
    captions: list[str]
    labels: list[str] | None = None  # the kinds of things that people found in the image; None: not labelled
    style: str = ""  # the style of the captions: the name of the data folder

    def image(self) -> Image.Image:
        """Decode the image to RGB."""
        return Image.open(io.BytesIO(self.encoded)).convert("RGB")


def load_split(data: Path, split: str) -> list[Sample]:
    """Load all samples of `split` ("train", "val", "test") in the order of captions.json. Raises DatasetUnusable."""
    folder = data / "flickr8k" if (data / "flickr8k").is_dir() else data
    index_path = folder / "captions.json"
    if not index_path.is_file():
        raise DatasetUnusable(f"no captions.json in {folder}: --data must name the folder of a data set")
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
        wanted = {name: entry for name, entry in index.items() if entry["split"] == split}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetUnusable(f"{index_path} is not an index of images and captions: {error!r}") from error
    if not wanted:
        raise DatasetUnusable(f"{index_path} has no split named {split!r}")
    encoded = _read_images(folder, set(wanted))
    missing = wanted.keys() - encoded.keys()
    if missing:
        raise DatasetUnusable(f"{len(missing)} images of {split} are missing in {folder}, among them {min(missing)}")
    return [
        Sample(name, encoded[name], list(entry["captions"]), entry.get("labels"), folder.resolve().name)
        for name, entry in wanted.items()
    ]


def _read_images(folder: Path, names: set[str]) -> dict[str, bytes]:
    """Read those of `names` that are in `folder` or in its tar files."""
    found = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    for path in sorted(folder.glob("*.tar")):
        if found.keys() >= names:
            break
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name in names and (file := archive.extractfile(member)):
                    found[member.name] = file.read()
    return found
