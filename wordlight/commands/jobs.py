"""`wordlight jobs`: inspects the queue and its dead letters, retries and cancels jobs."""

import argparse
import json
import time
from typing import TYPE_CHECKING

from wordlight.commands.configuration import read_settings
from wordlight.commands.options import AddCommand, add_json_option
from wordlight.terminal import fail

if TYPE_CHECKING:
    from jobs.inspector import Inspector


def add_jobs(command: AddCommand) -> None:
    """Add the command."""
    jobs = command("jobs", _jobs).add_subparsers(title="actions", required=True, metavar="ACTION", dest="action")
    for name, text in (
        ("list", "list queued and running jobs"),
        ("dead", "list dead letters: jobs that were given up"),
    ):
        action = jobs.add_parser(name, help=text)
        action.add_argument("--limit", type=int, default=100, metavar="N", help="show at most N jobs (default 100)")
        add_json_option(action)
    for name, text in (
        ("retry", "submit a dead letter again as a new job and print its id"),
        ("cancel", "cancel a queued or running job"),
    ):
        action = jobs.add_parser(name, help=text)
        action.add_argument("id", metavar="ID", help="job id, as `wordlight jobs list` and `dead` show it")
        add_json_option(action)


def _jobs(arguments: argparse.Namespace) -> int:
    """inspect the queue and its dead letters, retry and cancel jobs"""
    from redis.exceptions import RedisError

    from jobs.connection import connect
    from jobs.inspector import Inspector, NoSuchJob
    from jobs.producer import QueueFull
    from wordlight.queue_server import HomeSettings, NoQueue, queue_url

    settings = read_settings(HomeSettings)
    try:
        with connect(queue_url(settings)) as redis:
            _run(arguments, Inspector(redis, settings))
    except QueueFull:
        fail("the queue is full: try again later")
    except (NoSuchJob, NoQueue, RedisError) as error:
        fail(str(error))
    return 0


def _run(arguments: argparse.Namespace, inspector: "Inspector") -> None:
    """Run the action. Raises NoSuchJob, QueueFull and RedisError."""
    from jobs.inspector import NoSuchJob

    if arguments.action == "retry":
        new = inspector.send_back(arguments.id)
        print(json.dumps({"retried": arguments.id, "id": new}) if arguments.json else new)
    elif arguments.action == "cancel":
        if not inspector.cancel(arguments.id):
            raise NoSuchJob(f"there is no queued or running job {arguments.id}")
        print(json.dumps({"canceled": arguments.id}) if arguments.json else f"canceled {arguments.id}")
    elif arguments.json:
        rows = inspector.dead if arguments.action == "dead" else inspector.active
        for row in rows(arguments.limit):
            print(json.dumps(row.as_dict()))
    else:
        _print(inspector, arguments.action, arguments.limit)


def _print(inspector: "Inspector", action: str, limit: int) -> None:
    """Print counts and a table of jobs."""
    counts = inspector.counts()
    print(f"{counts['active']} jobs queued or running, {counts['dead']} dead letters, {counts['workers']} workers")
    rows = list((inspector.dead if action == "dead" else inspector.active)(limit))
    if rows:
        print(f"{'id':36}  {'status':10}  {'attempts':>8}  {'age':>8}  {'owner':8}  request / reason")
    for row in rows:
        age = f"{max(0.0, time.time() - row.since):.0f} s"
        print(
            f"{row.id:36}  {row.status:10}  {row.attempts:8}  {age:>8}  {row.owner or '-':8}  "
            f"{row.reason or row.request_id}"
        )
