"""`wordlight jobs`: the queue and the dead letters, to look at and to set right.

In: arguments; out: lines on standard output.
"""

import argparse
import json
import time

from jobs.connection import connect
from jobs.inspector import Inspector, NoSuchJob, Row
from wordlight.queue_server import HomeSettings, queue_url


def run(arguments: argparse.Namespace, settings: HomeSettings) -> None:
    """Do what is asked for. Raises NoSuchJob, QueueFull, NoQueue and redis.exceptions.RedisError."""
    with connect(queue_url(settings)) as redis:
        inspector = Inspector(redis, settings)
        if arguments.action == "retry":
            new = inspector.send_back(arguments.id)
            print(json.dumps({"retried": arguments.id, "id": new}) if arguments.json else new)
        elif arguments.action == "cancel":
            if not inspector.cancel(arguments.id):
                raise NoSuchJob(f"there is no job {arguments.id} that is not over")
            print(json.dumps({"canceled": arguments.id}) if arguments.json else f"canceled {arguments.id}")
        elif arguments.json:
            rows = inspector.dead if arguments.action == "dead" else inspector.active
            for row in rows(arguments.limit):
                print(json.dumps(row.as_dict()))
        else:
            _print(inspector, arguments.action, arguments.limit)


def _print(inspector: Inspector, action: str, limit: int) -> None:
    counts = inspector.counts()
    print(f"{counts['active']} jobs not over, {counts['dead']} dead letters, {counts['workers']} workers")
    rows: list[Row] = list((inspector.dead if action == "dead" else inspector.active)(limit))
    if rows:
        print(f"{'id':36}  {'status':10}  {'attempts':>8}  {'age':>8}  {'owner':8}  request / reason")
    for row in rows:
        age = f"{max(0.0, time.time() - row.since):.0f} s"
        print(
            f"{row.id:36}  {row.status:10}  {row.attempts:8}  {age:>8}  {row.owner or '-':8}  "
            f"{row.reason or row.request_id}"
        )
