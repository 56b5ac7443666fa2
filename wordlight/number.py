"""A number of things, as an argument of a command: one at least."""

import argparse


def number(text: str) -> int:
    """Raises what argparse makes one line of."""
    things = int(text)
    if things < 1:
        raise argparse.ArgumentTypeError(f"invalid number value: {text!r}: must be at least 1")
    return things
