"""`wordlight explain`: draws the figure of Show, Attend and Tell, a panel for each word with its heatmap."""

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

from wordlight.commands.options import (
    AddCommand,
    add_decoding_options,
    add_model_options,
    decoding_options,
    load_captioner,
)
from wordlight.terminal import fail

if TYPE_CHECKING:
    from app.images.picture import WorkingImage
    from jobs.job import Caption
    from model.runtime.captioner import Captioner
    from wordlight.library.outcome import Failed

_EPILOG = """\
The first panel is the photograph. Each word has a panel with its heatmap and the heatmap's share in the strongest
place. Words in brackets name nothing visible: do not rely on their maps. A heatmap shows where the model found evidence
for a word, not why it chose the word.

exit status: 0, or 1 with a line on standard error
"""


def add_explain(command: AddCommand) -> None:
    """Add the command."""
    explain = command("explain", _explain)
    explain.formatter_class = argparse.RawDescriptionHelpFormatter
    explain.epilog = _EPILOG
    explain.add_argument("photo", type=Path, metavar="PHOTO")
    explain.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE.png",
        help="file to write (default: PHOTO's name with -explained.png)",
    )
    explain.add_argument("--caption", metavar="TEXT", help="explain this caption instead of a generated one")
    explain.add_argument(
        "--scale",
        choices=["word", "caption"],
        default="word",
        help="normalise brightness within each word (default) or over the whole caption",
    )
    explain.add_argument("--json", action="store_true", help="print the caption as JSON, with both maps of each word")
    add_decoding_options(explain)
    add_model_options(explain)


def _explain(arguments: argparse.Namespace) -> int:
    """draw the heatmap of each word of a caption"""
    from app.rendering.contact_sheet import contact_sheet
    from model.files import write_whole
    from model.text.function_words import FUNCTION_WORDS
    from wordlight.library.outcome import Failed

    output = arguments.output or Path(f"{arguments.photo.stem}-explained.png")
    if output.suffix.lower() != ".png":
        fail(f"{output}: the name must end in .png")
    working = asyncio.run(_decoded(arguments.photo))
    if isinstance(working, Failed):
        fail(f"{working.path}: {working.error}")
    caption = _caption(arguments, load_captioner(arguments, 1), working)
    try:
        write_whole(output, contact_sheet(working.data, caption, arguments.scale, FUNCTION_WORDS))
    except OSError as error:
        fail(f"{output}: {error.strerror or error}")
    plain = f"{caption.text}\n{output}"
    result = {"path": str(arguments.photo), "figure": str(output), "caption": caption.model_dump()}
    print(json.dumps(result) if arguments.json else plain)
    return 0


async def _decoded(path: Path) -> "WorkingImage | Failed":
    from wordlight.library.local import decoded, decoder

    async with decoder() as processes:
        return await decoded(path, processes)


def _caption(arguments: argparse.Namespace, captioner: "Captioner", working: "WorkingImage") -> "Caption":
    """Generate a caption, or score the given one."""
    import io

    from PIL import Image

    from worker.convert import caption_for

    decoding = decoding_options(arguments)
    encoded = captioner.encode(captioner.prepare(Image.open(io.BytesIO(working.data)))[None])
    if arguments.caption is None:
        return caption_for(None, captioner.generate(encoded, decoding)[0][0])
    try:
        return caption_for(None, captioner.score(encoded, [arguments.caption])[0])
    except ValueError as error:
        fail(f"--caption: {error}")
