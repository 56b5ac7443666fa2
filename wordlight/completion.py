"""`wordlight completion`: what a shell must know to complete our commands, options and file names.

In: the name of a shell; out: a script on standard output. It is made from the parser itself, so it knows all of it.
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wordlight.command import AddCommand

_HOW = """\
to use it from the next shell on:
  bash  wordlight completion bash > ~/.local/share/bash-completion/completions/wordlight
  zsh   wordlight completion zsh > ~/.zfunc/_wordlight     (with ~/.zfunc in $fpath before compinit)
  fish  wordlight completion fish > ~/.config/fish/completions/wordlight.fish
"""


def add_completion(command: "AddCommand", parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Add the command, which completes what `parser` returns."""

    def run(arguments: argparse.Namespace) -> int:
        """print what a shell needs to complete commands and options"""
        import shtab

        print(shtab.complete(_with_files(parser()), arguments.shell))
        return 0

    completion = command("completion", run)
    completion.formatter_class = argparse.RawDescriptionHelpFormatter
    completion.epilog = _HOW
    completion.add_argument("shell", choices=["bash", "fish", "tcsh", "zsh"])


def _with_files(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser, with a word to shtab where arguments are paths."""
    from pathlib import Path

    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _with_files(sub)
        elif action.type is Path:
            action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]
    return parser
