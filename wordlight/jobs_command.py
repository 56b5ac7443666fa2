"""`wordlight jobs`: the queue and the dead letters, to look at and to set right. In: arguments; out: lines."""

import argparse
import json
import time

from jobs.connection import connect
from jobs.inspector import Inspector, NotSent, Row
from jobs.settings import QueueSettings


def run_jobs(arguments: argparse.Namespace, settings: QueueSettings, url: str) -> int:
    """Do what `arguments` say with the queue at `url`; returns the exit status. Raises RedisError and NotSent."""
    with connect(url) as redis:
        inspector = Inspector(redis, settings)
        if arguments.action == "retry":
            print(inspector.send_back(arguments.id))
        elif arguments.action == "cancel":
            if not inspector.cancel(arguments.id):
                raise NotSent(f"there is no job {arguments.id} that is not over")
        elif arguments.json:
            rows = inspector.dead if arguments.action == "dead" else inspector.active
            for row in rows(arguments.limit):
                print(json.dumps(row.as_dict()))
        else:
            _print(inspector, arguments.action, arguments.limit)
    return 0


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
