"""`wordlight api`: runs the web process."""

import argparse

from wordlight.commands.configuration import read_settings
from wordlight.commands.options import AddCommand
from wordlight.terminal import fail


def add_api(command: AddCommand) -> None:
    """Add the command."""
    command("api", _api)


def _api(_arguments: argparse.Namespace) -> int:
    """run the web process"""
    from app.http.server import inherited_socket, listening_socket
    from app.main import run
    from app.settings import AppSettings

    settings = read_settings(AppSettings)
    try:
        listening = inherited_socket() or listening_socket(settings)
    except OSError as error:
        fail(str(error))
    run(settings, listening)
    return 0
