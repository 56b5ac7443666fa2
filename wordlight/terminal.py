"""What is for a terminal alone: colours, and a bar that shows how far a long command has come.

In: text, and the stream it goes to; out: the same text, coloured where people watch. It must not know what is told.
"""

import os
from contextlib import nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn, Self, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm


class Colour(StrEnum):
    """What a terminal is told to change to, as SGR parameters (ECMA-48)."""

    WRONG = "31"  # red
    FAINT = "2"


def paint(text: str, colour: Colour, stream: TextIO) -> str:
    """The text in a colour, where `stream` is a terminal that shows them and nobody minds (no-color.org)."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


class Bar:
    """A bar with the rate and the time left, while `stream` is a terminal and there is more than one step."""

    def __init__(self, stream: TextIO, total: int, unit: str) -> None:
        self._bar: tqdm[NoReturn] | None = None
        if total > 1 and stream.isatty():
            from tqdm import tqdm as new_bar

            self._bar = new_bar(total=total, unit=unit, file=stream, dynamic_ncols=True, leave=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self) -> None:
        """One more is done."""
        if self._bar is not None:
            self._bar.update()

    def say(self, text: str, stream: TextIO) -> None:
        """A line of text, which the bar makes room for."""
        with self._bar.external_write_mode(file=stream) if self._bar is not None else nullcontext():
            print(text, file=stream, flush=True)
