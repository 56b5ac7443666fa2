"""The entry point of `wordlight`: parses arguments and runs a command.

Commands import what they need when they run: `wordlight api` never loads torch, and `wordlight caption --server` never
loads a web framework. An error that the user can fix is one line on standard error and a non-zero exit status.
"""

import argparse
import os
import sys
from collections.abc import Callable

from jobs.logs import LogSettings, set_up_logs
from wordlight.commands.api import add_api
from wordlight.commands.bench import add_bench
from wordlight.commands.bulk import add_bulk
from wordlight.commands.caption import add_caption
from wordlight.commands.completion import add_completion
from wordlight.commands.configuration import add_configuration, read_settings
from wordlight.commands.dataset import add_dataset
from wordlight.commands.evaluate import add_evaluate
from wordlight.commands.explain import add_explain
from wordlight.commands.family import add_family
from wordlight.commands.gradients import add_gradients
from wordlight.commands.jobs import add_jobs
from wordlight.commands.keys import add_keys
from wordlight.commands.serve import add_serve
from wordlight.commands.train import add_train
from wordlight.commands.worker import add_worker
from wordlight.terminal import fail

_OURS = {"app", "jobs", "model", "worker", "wordlight"}

_EPILOG = """\
`wordlight COMMAND --help` describes a command. The service reads its settings from the environment (WORDLIGHT_...,
REDIS_URL). Colours appear on terminals only, and never if NO_COLOR is set.

exit status:
  0    success
  1    failure, or a partial result; standard error says why
  2    wrong usage
  78   an invalid setting; do not try again with the same settings
  130  interrupted by Ctrl-C
"""


def main() -> None:
    """Run the command line."""
    arguments = _parser().parse_args()
    set_up_logs(read_settings(LogSettings))
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        status = run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141  # the shell's status for SIGPIPE
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        fail(f"{error.name} is not installed: this command needs one of the extras of wordlight (see pyproject.toml)")
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wordlight",
        description="Captions photographs and shows, word by word, where it was looking.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.set_defaults(run=run)
        return sub

    for add in (add_serve, add_api, add_worker, add_keys, add_jobs, add_caption, add_explain, add_dataset, add_train):
        add(command)
    for add in (add_evaluate, add_family, add_gradients, add_bench, add_configuration, add_bulk):
        add(command)
    add_completion(command, _parser)
    return parser
