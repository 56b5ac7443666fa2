"""`wordlight serve`: runs the whole service on this machine."""

import argparse

from wordlight.commands.configuration import read_settings
from wordlight.commands.options import AddCommand
from wordlight.terminal import fail


def add_serve(command: AddCommand) -> None:
    """Add the command."""
    command("serve", _serve)


def _serve(_arguments: argparse.Namespace) -> int:
    """run the whole service on this machine: queue server, web process and workers"""
    from wordlight.service import CannotServe, ServeSettings, serve

    try:
        serve(read_settings(ServeSettings))
    except CannotServe as error:
        fail(str(error))
    return 0
