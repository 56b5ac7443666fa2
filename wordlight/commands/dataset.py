"""`wordlight dataset`: converts COCO, Flickr8k, Karpathy's splits or a list of your own to a data folder for training.

It decodes pictures as the service decodes uploads, so that a captioner is trained on what it will see.
"""

import argparse
import io
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from wordlight.commands.options import AddCommand, positive_number
from wordlight.terminal import fail

if TYPE_CHECKING:
    from model.training.published import Listed


def add_dataset(command: AddCommand) -> None:
    """Add the command."""
    kinds = command("dataset", _dataset).add_subparsers(title="data sets", required=True, metavar="KIND", dest="kind")

    def kind(name: str, text: str) -> argparse.ArgumentParser:
        parser = kinds.add_parser(name, help=text, description=text)
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="data folder to write")
        parser.add_argument(
            "--side", type=_side, default=224, metavar="N", help="side of the stored squares in pixels (default 224)"
        )
        parser.add_argument(
            "--pictures-a-file",
            type=positive_number,
            default=1000,
            metavar="N",
            help="pictures per tar file (default 1000)",
        )
        return parser

    coco = kind("coco", "COCO's captions and pictures, as downloaded, unpacked or not")
    coco.add_argument("source", type=Path, metavar="FOLDER", help="folder with annotations/, train2017 and val2017")
    coco.add_argument("--year", type=int, choices=[2014, 2017], default=2017, help="year of the release (default 2017)")
    flickr8k = kind("flickr8k", "Flickr8k, as published by its authors")
    flickr8k.add_argument("source", type=Path, metavar="FOLDER", help="folder with Flickr8k.token.txt and the pictures")
    karpathy = kind("karpathy", "Flickr8k, Flickr30k or COCO with Karpathy's splits")
    karpathy.add_argument("source", type=Path, metavar="JSON", help="such as dataset_flickr30k.json")
    karpathy.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder or ZIP of the pictures")
    own = kind("list", "pictures and captions of your own")
    own.add_argument("source", type=Path, metavar="LIST", help=".csv or .jsonl with file, caption and optionally split")
    own.add_argument(
        "--images", type=Path, metavar="DIR", help="folder or ZIP of the pictures (default: the folder of the list)"
    )


def _side(text: str) -> int:
    if not 32 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text} is not from 32 to 1024")
    return int(text)


def _dataset(arguments: argparse.Namespace) -> int:
    """convert a data set to a data folder for training; an interrupted conversion resumes where it stopped"""
    from model.training.data_folder import write_data_folder
    from model.training.dataset import DatasetUnusable
    from model.training.published import PictureFiles

    def complain(file: str, reason: str) -> None:
        print(f"{file}: {reason}", file=sys.stderr, flush=True)

    def tell(done: int, total: int) -> None:
        print(f"{done:,} of {total:,} pictures", file=sys.stderr, flush=True)

    try:
        listed, root = _read(arguments)
        with ExitStack() as stack:
            places = {place: stack.enter_context(PictureFiles(root / place)) for place in {one.place for one in listed}}
            written = write_data_folder(
                listed,
                places,
                arguments.output,
                side=arguments.side,
                stored=lambda data: _stored(data, arguments.side),
                pictures_a_file=arguments.pictures_a_file,
                tell=tell,
                complain=complain,
            )
        if arguments.kind == "flickr8k":
            _copy_judgements(arguments.source, arguments.output)
    except (DatasetUnusable, OSError) as error:
        fail(str(error))
    print(json.dumps({"folder": str(arguments.output), **written.pictures, "left_out": written.left_out}))
    return 1 if written.left_out else 0


def _read(arguments: argparse.Namespace) -> tuple[Sequence["Listed"], Path]:
    """Return the entries of the data set and the folder of its pictures. Raises DatasetUnusable."""
    from model.training.published import read_coco, read_flickr8k, read_karpathy, read_list

    source: Path = arguments.source
    if arguments.kind == "coco":
        return read_coco(source, arguments.year), source
    if arguments.kind == "flickr8k":
        return read_flickr8k(source), source
    if arguments.kind == "karpathy":
        return read_karpathy(source), arguments.images
    return read_list(source), arguments.images or source.parent


def _stored(data: bytes, side: int) -> bytes:
    """Decode a picture as the service does and encode it as a small square JPEG. Raises PictureUnusable."""
    from PIL import Image

    from app.images.limits import ImageLimits
    from app.images.picture import PictureRefused, prepare
    from model.runtime.pixels import stored_jpeg
    from model.training.data_folder import PictureUnusable

    try:
        return stored_jpeg(Image.open(io.BytesIO(prepare(data, ImageLimits()).data)), side)
    except PictureRefused as refused:
        raise PictureUnusable(refused.detail) from refused


def _copy_judgements(source: Path, output: Path) -> None:
    """Copy the human judgements of Flickr8k, if there are any, for `wordlight evaluate --honesty`."""
    from model.training.published import FLICKR8K_JUDGEMENTS

    for published, ours in FLICKR8K_JUDGEMENTS.items():
        for folder in (source / "Flickr8k_text", source):
            if (folder / published).is_file():
                shutil.copyfile(folder / published, output / ours)
