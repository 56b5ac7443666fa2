"""`wordlight completion`: prints a shell script, made from the parser, that completes commands and options."""

import argparse
from collections.abc import Callable

from wordlight.commands.options import AddCommand

_EPILOG = """\
installation, for new shells:
  bash  wordlight completion bash > ~/.local/share/bash-completion/completions/wordlight
  zsh   wordlight completion zsh > ~/.zfunc/_wordlight     (with ~/.zfunc in $fpath before compinit)
  fish  wordlight completion fish > ~/.config/fish/completions/wordlight.fish
"""


def add_completion(command: AddCommand, parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Add the command, which completes the options of the parser that `parser` makes."""

    def run(arguments: argparse.Namespace) -> int:
        """print a script for your shell that completes commands and options"""
        import shtab

        print(shtab.complete(_with_files(parser()), arguments.shell))
        return 0

    completion = command("completion", run)
    completion.formatter_class = argparse.RawDescriptionHelpFormatter
    completion.epilog = _EPILOG
    completion.add_argument("shell", choices=["bash", "fish", "tcsh", "zsh"])


def _with_files(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Tell shtab which arguments are paths."""
    from pathlib import Path

    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _with_files(sub)
        elif action.type is Path:
            action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]
    return parser
