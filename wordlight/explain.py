"""`wordlight explain`: the figure of Show, Attend and Tell, with a panel for each word and its heatmap.

In: arguments; out: a PNG, drawn as the service draws it, and the caption on standard output.
"""

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

from wordlight.captioners import add_decoding_options, add_model_options, decoding_options, load_captioner
from wordlight.failure import fail

if TYPE_CHECKING:
    from app.images.picture import WorkingImage
    from jobs.job import Caption
    from model.runtime.captioner import Captioner
    from wordlight.command import AddCommand
    from wordlight.library.record import Failed

_MORE = """\
The first panel is the photograph. Each word has a panel with its heatmap, and beside the word the share of the heatmap
in its strongest place. Words in brackets name nothing that a picture shows, so read little into their maps. A heatmap
shows where evidence for the word was read, not why.

exit status: 0, or 1 with a line on standard error
"""


def add_explain(command: "AddCommand") -> None:
    """Add the command."""
    explain = command("explain", _explain)
    explain.formatter_class = argparse.RawDescriptionHelpFormatter
    explain.epilog = _MORE
    explain.add_argument("photo", type=Path, metavar="PHOTO")
    explain.add_argument(
        "-o", "--output", type=Path, metavar="FILE.png", help="the figure (default: PHOTO's name, with -explained.png)"
    )
    explain.add_argument("--caption", metavar="TEXT", help="explain this caption, instead of one by the captioner")
    explain.add_argument(
        "--scale",
        choices=["word", "caption"],
        default="word",
        help="what is brightest: the strongest place of each word (default), or of the whole caption",
    )
    explain.add_argument("--json", action="store_true", help="the caption as JSON, with both maps of each word")
    add_decoding_options(explain)
    add_model_options(explain)


def _explain(arguments: argparse.Namespace) -> int:
    """draw the heatmap of each word of a caption"""
    from app.rendering.contact_sheet import contact_sheet
    from model.text.function_words import FUNCTION_WORDS
    from wordlight.library.record import Failed
    from wordlight.library.writers import replace_file

    output = arguments.output or Path(f"{arguments.photo.stem}-explained.png")
    if output.suffix.lower() != ".png":
        fail(f"{output}: the figure is a PNG, so its name must end in .png")
    working = asyncio.run(_decoded(arguments.photo))
    if isinstance(working, Failed):
        fail(f"{working.path}: {working.error}")
    caption = _said(arguments, load_captioner(arguments, 1), working)
    try:
        replace_file(output, contact_sheet(working.data, caption, arguments.scale, FUNCTION_WORDS))
    except OSError as error:
        fail(f"{output}: {error.strerror or error}")
    plain = f"{caption.text}\n{output}"
    known = {"path": str(arguments.photo), "figure": str(output), "caption": caption.model_dump()}
    print(json.dumps(known) if arguments.json else plain)
    return 0


async def _decoded(path: Path) -> "WorkingImage | Failed":
    from wordlight.library.here import decoded, decoder

    async with decoder() as processes:
        return await decoded(path, processes)


def _said(arguments: argparse.Namespace, captioner: "Captioner", working: "WorkingImage") -> "Caption":
    """The caption to be explained."""
    import io

    from PIL import Image

    from worker.convert import caption_for

    decoding = decoding_options(arguments)
    memory = captioner.encode(captioner.prepare(Image.open(io.BytesIO(working.data)))[None])
    if arguments.caption is None:
        return caption_for(None, captioner.generate(memory, decoding)[0][0])
    try:
        return caption_for(None, captioner.score(memory, [arguments.caption])[0])
    except ValueError as error:
        fail(f"--caption: {error}")
