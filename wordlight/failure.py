"""The end of a command that cannot be done: one line, and an exit status other than 0."""

import sys
from typing import NoReturn

from wordlight.terminal import Colour, paint


def fail(message: str, status: int = 1) -> NoReturn:
    """End with one line; status os.EX_CONFIG tells a supervisor that another try would end in the same way."""
    print(f"{paint('wordlight:', Colour.WRONG, sys.stderr)} {message}", file=sys.stderr)
    sys.exit(status)
