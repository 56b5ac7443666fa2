"""What every command shares: how it is added to the command line, and an argument that counts things."""

import argparse
from collections.abc import Callable
from typing import Protocol


class AddCommand(Protocol):
    """Adds a command to the command line, and returns its parser."""

    def __call__(self, name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser: ...


def number(text: str) -> int:
    """Parse a number of at least 1, for argparse."""
    things = int(text)
    if things < 1:
        raise argparse.ArgumentTypeError(f"invalid number value: {text!r}: must be at least 1")
    return things
