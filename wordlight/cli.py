"""`wordlight`: one command, with a subcommand for each thing that can be run.

Each subcommand imports what it needs when it is called, so that `wordlight api` never loads torch and
`wordlight caption` never loads a web framework. A failure that the user can mend is one line and an exit status
other than 0.
"""

import argparse
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from jobs.logs import LogSettings, set_up_logs
from wordlight.bench import add_bench
from wordlight.bulk.command import add_bulk
from wordlight.caption import add_caption
from wordlight.completion import add_completion
from wordlight.configuration import add_configuration
from wordlight.datasets import add_dataset
from wordlight.explain import add_explain
from wordlight.failure import fail
from wordlight.learning import add_learning

_OURS = {"app", "jobs", "model", "worker", "wordlight"}

_MORE = """\
`wordlight COMMAND --help` tells more. Settings of the service come from the environment (WORDLIGHT_..., REDIS_URL).
Colours are for terminals only, and for none where NO_COLOR is set.

exit status:
  0    done
  1    it could not be done, or not all of it; one line on standard error says why
  2    the command was not understood
  78   a setting cannot be as it is; another try would end in the same way
  130  interrupted by Ctrl-C
"""

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def main() -> None:
    """Run the command line."""
    parser = _parser()
    arguments = parser.parse_args()
    set_up_logs(_settings(LogSettings))
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        status = run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # who reads our output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141  # as if SIGPIPE had ended us
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        fail(f"{error.name} is not installed: this command needs one of the extras of wordlight (see pyproject.toml)")
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wordlight",
        description="Captions photographs and shows, word by word, where it was looking.",
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.set_defaults(run=run)
        return sub

    command("serve", _serve)
    command("api", _api)
    command("worker", _worker)

    keys = command("keys", _keys).add_subparsers(title="actions", required=True, metavar="ACTION", dest="action")
    create = keys.add_parser("create", help="make a key; its secret is printed, this once")
    create.add_argument("name", metavar="NAME", help="what to call it; no two that are good bear the same name")
    create.add_argument(
        "--scope", action="append", help="read, write or metrics; may be given again (default: read and write)"
    )
    create.add_argument("--limit", help='pictures it may send, such as "60/minute" or "5/second;1000/day"')
    listing = keys.add_parser("list", help="show all keys, those revoked too")
    revoke = keys.add_parser("revoke", help="make a key no good from its next request on")
    revoke.add_argument("key", metavar="ID", help="its id, or its name")
    for sub in (create, listing, revoke):
        _add_json(sub)

    jobs = command("jobs", _jobs).add_subparsers(title="actions", required=True, metavar="ACTION", dest="action")
    for action, text in (("list", "show jobs that wait or run"), ("dead", "show jobs that were given up")):
        listing = jobs.add_parser(action, help=text)
        listing.add_argument("--limit", type=int, default=100, metavar="N", help="how many to show (default 100)")
        _add_json(listing)
    for name, text in (
        ("retry", "make a new job of one that was given up; prints its id"),
        ("cancel", "end a job that waits or runs"),
    ):
        changing = jobs.add_parser(name, help=text)
        changing.add_argument("id", metavar="ID", help="as `wordlight jobs list` and `dead` show it")
        _add_json(changing)

    add_caption(command)
    add_explain(command)
    add_dataset(command)
    add_learning(command)
    add_bench(command)
    add_configuration(command)
    add_bulk(command)
    add_completion(command, _parser)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _serve(_arguments: argparse.Namespace) -> int:
    """run the whole service here: queue, web process and worker"""
    from wordlight.serve import CannotServe, ServeSettings, serve

    try:
        serve(_settings(ServeSettings))
    except CannotServe as error:
        fail(str(error))
    return 0


def _api(_arguments: argparse.Namespace) -> int:
    """run the web process"""
    from app.http.server import inherited_socket, listening_socket
    from app.main import run
    from app.settings import AppSettings

    settings = _settings(AppSettings)
    try:
        listening = inherited_socket() or listening_socket(settings)
    except OSError as error:
        fail(str(error))
    run(settings, listening)
    return 0


def _worker(_arguments: argparse.Namespace) -> int:
    """run a worker, which owns a device and captions what is queued"""
    # Between two operators PyTorch's threads spin, which is quicker than sleeping; but three times as long, as they do
    # if left alone, takes the processor from the web process. Read when PyTorch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")

    from model.runtime.captioner import CaptionerNotLoadable
    from model.runtime.device import DeviceUnavailable
    from model.runtime.inference import EngineUnavailable
    from worker.main import run
    from worker.settings import WorkerSettings

    try:
        return run(_settings(WorkerSettings))
    except (CaptionerNotLoadable, DeviceUnavailable, EngineUnavailable) as error:
        fail(str(error), os.EX_CONFIG)


def _keys(arguments: argparse.Namespace) -> int:
    """make, list and revoke API keys"""
    from redis.exceptions import RedisError

    from app.access.api_keys import KeyRefused
    from wordlight.home import HomeSettings, NoQueue
    from wordlight.keys import run

    try:
        run(arguments, _settings(HomeSettings))
    except (KeyRefused, NoQueue, RedisError) as error:
        fail(str(error))
    return 0


def _jobs(arguments: argparse.Namespace) -> int:
    """look at the queue and the dead letters, and set them right"""
    from redis.exceptions import RedisError

    from jobs.inspector import NoSuchJob
    from jobs.producer import QueueFull
    from wordlight.home import HomeSettings, NoQueue
    from wordlight.jobs import run

    try:
        run(arguments, _settings(HomeSettings))
    except QueueFull:
        fail("the queue is full: try again later")
    except (NoSuchJob, NoQueue, RedisError) as error:
        fail(str(error))
    return 0


def _settings(kind: type[SettingsT]) -> SettingsT:
    """Settings from the environment, and from files that it names; a variable that cannot be is named."""
    try:
        return kind()
    except SettingsError as error:
        fail(str(error.__cause__ or error), os.EX_CONFIG)
    except ValidationError as error:
        first = error.errors()[0]
        names = [name if name == "REDIS_URL" else f"WORDLIGHT_{name}".upper() for name in map(str, first["loc"][:1])]
        # Pydantic says "Value error, " before what one of our own checks has said.
        fail(": ".join([*names, first["msg"].removeprefix("Value error, ")]), os.EX_CONFIG)
