"""Output for people: colours, a progress bar, and the one-line error that ends a command."""

import os
import sys
from contextlib import nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn, Self, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm


class Colour(StrEnum):
    """Colours as SGR parameters (ECMA-48)."""

    ERROR = "31"  # red
    FAINT = "2"


def fail(message: str, status: int = 1) -> NoReturn:
    """Print one line to standard error and exit.

    Status `os.EX_CONFIG` tells a supervisor not to start the command again.
    """
    print(f"{paint('wordlight:', Colour.ERROR, sys.stderr)} {message}", file=sys.stderr)
    sys.exit(status)


def paint(text: str, colour: Colour, stream: TextIO) -> str:
    """Colour the text if `stream` is a terminal with colours and NO_COLOR is not set (no-color.org)."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


class Bar:
    """A progress bar with rate and remaining time. Hidden unless `stream` is a terminal and `total` is above 1."""

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
        """Count one more step as done."""
        if self._bar is not None:
            self._bar.update()

    def say(self, text: str, stream: TextIO) -> None:
        """Print a line without breaking the bar."""
        with self._bar.external_write_mode(file=stream) if self._bar is not None else nullcontext():
            print(text, file=stream, flush=True)
