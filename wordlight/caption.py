"""`wordlight caption`: captions photographs, here or by a service, and puts the captions where they are wanted.

In: arguments; out: lines, files of captions, captions beside or in the photographs, and an exit status. It imports what
it needs when it is called.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from wordlight.captioners import add_decoding_options, add_model_options, decoding_options, load_captioner
from wordlight.command import number
from wordlight.failure import fail
from wordlight.terminal import Bar

if TYPE_CHECKING:
    from wordlight.command import AddCommand
    from wordlight.library.output import Output
    from wordlight.library.record import Outcome
    from wordlight.library.report import Writer

_EXAMPLES = """\
examples:
  wordlight caption cat.jpg dog.png
  wordlight caption ~/photos --recursive --output captions.jsonl --html captions.html
  wordlight caption ~/photos -r -o captions.csv --server http://127.0.0.1:8000

Files of captions grow line by line. Interrupted, the same command goes on: what is in all of them is not captioned
again. A file that cannot be captioned is told of and does not stop the others.

exit status:
  0    every photograph has its caption
  1    some have none, or nothing could be done; standard error says why
  2    the command was not understood
  130  interrupted by Ctrl-C
"""


def add_caption(command: "AddCommand") -> None:
    """Add the command."""
    caption = command("caption", _caption)
    caption.formatter_class = argparse.RawDescriptionHelpFormatter
    caption.epilog = _EXAMPLES
    caption.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a photograph or, with -r, a folder")
    caption.add_argument("-r", "--recursive", action="store_true", help="caption the pictures in folders, to any depth")
    add_decoding_options(caption)

    written = caption.add_argument_group("what is written")
    written.add_argument(
        "-o",
        "--output",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a file of captions: .jsonl (everything), .csv (a table) or .html (a page); may be given again",
    )
    written.add_argument("--html", type=Path, metavar="FILE", help="a page of the pictures, with captions as alt text")
    written.add_argument("--json", action="store_true", help="one JSON object a line; with files, one of the sums")
    written.add_argument(
        "--attention",
        choices=["none", "heatmap", "both"],
        default="heatmap",
        help="maps of each word in JSON: the heatmap (default), the decoder's own attention too, or none",
    )

    kept = caption.add_argument_group("captions with the photographs")
    kept.add_argument(
        "--write-xmp",
        action="store_true",
        help="write a sidecar NAME.xmp beside each; of one that is there, only the description changes",
    )
    kept.add_argument(
        "--write-iptc", action="store_true", help="write the captions into copies of JPEG files; no pixel changes"
    )
    where = kept.add_mutually_exclusive_group()
    where.add_argument(
        "--copies",
        type=Path,
        default=Path("captioned"),
        metavar="DIR",
        help="with --write-iptc: the folder of the copies (default captioned)",
    )
    where.add_argument(
        "--in-place", action="store_true", help="with --write-iptc: change the photographs, and make no copies"
    )
    kept.add_argument("--overwrite", action="store_true", help="replace descriptions that somebody else wrote")

    service = caption.add_argument_group("by a service")
    service.add_argument(
        "--server",
        metavar="URL",
        help="send the photographs to a Wordlight there, which has a model of its own; a key is read from the "
        "environment variable WORDLIGHT_API_KEY",
    )
    service.add_argument(
        "--at-once", type=number, default=8, metavar="N", help="photographs that are on their way at once (default 8)"
    )
    add_model_options(caption.add_argument_group("here"))


def _caption(arguments: argparse.Namespace) -> int:
    """caption photographs: here, or by a service"""
    from wordlight.library.photographs import photographs
    from wordlight.library.record import CannotGoOn
    from wordlight.library.report import Report

    copies = arguments.copies if arguments.write_iptc and not arguments.in_place else None
    found = photographs(arguments.paths, recursive=arguments.recursive, without=copies)
    if not found:
        fail(f"there are no pictures in {', '.join(map(str, arguments.paths))}")
    try:
        with ExitStack() as stack:
            outputs = [stack.enter_context(output) for output in _outputs(arguments)]
            left = [path for path in found if not outputs or not all(output.has(path) for output in outputs)]
            bar = stack.enter_context(Bar(sys.stderr, len(left), "photo"))
            report = Report(
                outputs, _writers(arguments, found, copies), bar, as_json=arguments.json, known=len(found) - len(left)
            )
            stack.callback(report.sum_up)  # also after Ctrl-C
            if left:
                asyncio.run(_each(_captions(arguments, left), report.take))
    except CannotGoOn as error:
        fail(str(error))
    return 1 if report.failed else 0


def _outputs(arguments: argparse.Namespace) -> "Iterator[Output]":
    from wordlight.library.forms import Page
    from wordlight.library.output import Output, form_of

    for path in arguments.output:
        yield Output(path, form_of(path))
    if arguments.html:
        yield Output(arguments.html, Page())


def _writers(arguments: argparse.Namespace, found: Sequence[Path], copies: Path | None) -> "list[Writer]":
    from wordlight.library.writers import Captions, Sidecars

    writers: list[Writer] = []
    if arguments.write_xmp:
        writers.append(Sidecars(found, overwrite=arguments.overwrite))
    if arguments.write_iptc:
        writers.append(Captions(found, copies, overwrite=arguments.overwrite))
    return writers


def _captions(arguments: argparse.Namespace, paths: Sequence[Path]) -> "AsyncGenerator[Outcome]":
    """What captions the photographs."""
    from jobs.options import AttentionMaps, CaptionOptions, Strategy

    decoding = decoding_options(arguments)
    options = CaptionOptions(
        strategy=Strategy(decoding.strategy.value),
        beam_size=decoding.beam_size,
        attention=AttentionMaps(arguments.attention),
    )
    if arguments.server:
        from wordlight.library.there import captions_there

        return captions_there(paths, arguments.server, options, arguments.at_once)
    from wordlight.library.here import captions_here

    return captions_here(paths, lambda: load_captioner(arguments, len(paths)), decoding, options)


async def _each(outcomes: "AsyncGenerator[Outcome]", take: "Callable[[Outcome], None]") -> None:
    async with aclosing(outcomes):
        async for outcome in outcomes:
            take(outcome)
