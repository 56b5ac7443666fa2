"""`wordlight caption`: captions photographs and writes the captions to files, sidecars or the photographs."""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from wordlight.commands.options import (
    AddCommand,
    add_decoding_options,
    add_model_options,
    decoding_options,
    load_captioner,
    positive_number,
)
from wordlight.terminal import Bar, fail

if TYPE_CHECKING:
    from wordlight.library.caption_files import CaptionFile
    from wordlight.library.outcome import Outcome
    from wordlight.library.report import Writer

_EPILOG = """\
examples:
  wordlight caption cat.jpg dog.png
  wordlight caption ~/photos --recursive --output captions.jsonl --html captions.html
  wordlight caption ~/photos -r -o captions.csv --server http://127.0.0.1:8000

Files of captions grow line by line. After an interruption, the same command continues and skips the photographs that
all files contain. A file that cannot be captioned is reported and does not stop the others.

exit status:
  0    every photograph has its caption
  1    some have none, or nothing could be done; standard error says why
  2    wrong usage
  130  interrupted by Ctrl-C
"""


def add_caption(command: AddCommand) -> None:
    """Add the command."""
    caption = command("caption", _caption)
    caption.formatter_class = argparse.RawDescriptionHelpFormatter
    caption.epilog = _EPILOG
    caption.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a photograph or, with -r, a folder")
    caption.add_argument("-r", "--recursive", action="store_true", help="caption the pictures in folders, to any depth")
    add_decoding_options(caption)

    written = caption.add_argument_group("output")
    written.add_argument(
        "-o",
        "--output",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="file of captions: .jsonl (all fields), .csv (a table) or .html (a page); repeat for several",
    )
    written.add_argument("--html", type=Path, metavar="FILE", help="HTML page of the pictures, captions as alt text")
    written.add_argument(
        "--json", action="store_true", help="print one JSON object per line; with files, one with the totals"
    )
    written.add_argument(
        "--attention",
        choices=["none", "heatmap", "both"],
        default="heatmap",
        help="maps of each word in JSON: the heatmap (default), the decoder's own attention too, or none",
    )

    kept = caption.add_argument_group("metadata (needs ExifTool)")
    kept.add_argument(
        "--write-xmp",
        action="store_true",
        help="write a sidecar NAME.xmp beside each photograph; in an existing one, change only the description",
    )
    kept.add_argument(
        "--write-iptc",
        action="store_true",
        help="write the captions into copies of the photographs, as IPTC and XMP; no pixel changes",
    )
    where = kept.add_mutually_exclusive_group()
    where.add_argument(
        "--copies",
        type=Path,
        default=Path("captioned"),
        metavar="DIR",
        help="with --write-iptc: folder for the copies (default captioned)",
    )
    where.add_argument(
        "--in-place", action="store_true", help="with --write-iptc: write into the photographs and make no copies"
    )
    kept.add_argument("--overwrite", action="store_true", help="replace descriptions that somebody else wrote")

    service = caption.add_argument_group("with a service")
    service.add_argument(
        "--server",
        metavar="URL",
        help="URL of a Wordlight service that captions the photographs; the key is read from WORDLIGHT_API_KEY",
    )
    service.add_argument(
        "--at-once", type=positive_number, default=8, metavar="N", help="number of concurrent requests (default 8)"
    )
    add_model_options(caption.add_argument_group("on this machine"))


def _caption(arguments: argparse.Namespace) -> int:
    """caption photographs on this machine or with a service"""
    from wordlight.library.outcome import CannotContinue
    from wordlight.library.photographs import photographs
    from wordlight.library.report import Report

    copies = arguments.copies if arguments.write_iptc and not arguments.in_place else None
    photos = photographs(arguments.paths, recursive=arguments.recursive, without=copies)
    if not photos:
        fail(f"there are no pictures in {', '.join(map(str, arguments.paths))}")
    try:
        with ExitStack() as stack:
            writers = list(_writers(arguments, photos, copies, stack))
            files = [stack.enter_context(file) for file in _files(arguments)]
            left = [path for path in photos if not files or not all(file.has(path) for file in files)]
            bar = stack.enter_context(Bar(sys.stderr, len(left), "photo"))
            report = Report(files, writers, bar, as_json=arguments.json, known=len(photos) - len(left))
            stack.callback(report.sum_up)  # also after Ctrl-C
            if left:
                asyncio.run(_each(_captions(arguments, left), report.take))
    except CannotContinue as error:
        fail(str(error))
    return 1 if report.failed else 0


def _files(arguments: argparse.Namespace) -> "Iterator[CaptionFile]":
    from wordlight.library.caption_files import CaptionFile, Page, format_of

    for path in arguments.output:
        yield CaptionFile(path, format_of(path))
    if arguments.html:
        yield CaptionFile(arguments.html, Page())


def _writers(
    arguments: argparse.Namespace, photos: Sequence[Path], copies: Path | None, stack: ExitStack
) -> "Iterator[Writer]":
    if not arguments.write_xmp and not arguments.write_iptc:
        return
    from wordlight.library.metadata import ExifTool, PhotographWriter, SidecarWriter

    tool = stack.enter_context(ExifTool())
    if arguments.write_xmp:
        yield SidecarWriter(tool, overwrite=arguments.overwrite)
    if arguments.write_iptc:
        yield PhotographWriter(tool, photos, copies, overwrite=arguments.overwrite)


def _captions(arguments: argparse.Namespace, paths: Sequence[Path]) -> "AsyncGenerator[Outcome]":
    """Caption the photographs with a service or on this machine."""
    from jobs.options import AttentionMaps, CaptionOptions, Strategy

    decoding = decoding_options(arguments)
    options = CaptionOptions(
        strategy=Strategy(decoding.strategy.value),
        beam_size=decoding.beam_size,
        attention=AttentionMaps(arguments.attention),
    )
    if arguments.server:
        from wordlight.library.remote import remote_captions

        return remote_captions(paths, arguments.server, options, arguments.at_once)
    from wordlight.library.local import local_captions

    return local_captions(paths, lambda: load_captioner(arguments, len(paths)), decoding, options)


async def _each(outcomes: "AsyncGenerator[Outcome]", take: "Callable[[Outcome], None]") -> None:
    async with aclosing(outcomes):
        async for outcome in outcomes:
            take(outcome)
