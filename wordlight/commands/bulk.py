"""`wordlight bulk`: captions a folder or a bucket of millions of pictures with Ray."""

import argparse
import json
import os
import secrets
import sys
import time
from functools import partial

from wordlight.commands.options import (
    AddCommand,
    add_decoding_options,
    add_model_options,
    decoding_options,
    positive_number,
)
from wordlight.terminal import fail

_PROGRESS_SECONDS = 10.0


def add_bulk(command: AddCommand) -> None:
    """Add the command."""
    bulk = command("bulk", _bulk)
    option = bulk.add_argument
    option("input", metavar="INPUT", help="folder or bucket URL (s3://, gs://, ...) of the pictures")
    option("output", metavar="OUTPUT", help="folder or bucket URL for the captions; pictures in it are skipped")
    option("--format", choices=["jsonl", "parquet"], default="jsonl", help="format of the output (default jsonl)")
    option(
        "--attention",
        choices=["none", "heatmap", "both"],
        default="none",
        help="write each caption's words too, with these maps of each word (default none: no words)",
    )
    option("--retry-failed", action="store_true", help="retry pictures that failed in earlier runs")
    option("--part", type=positive_number, default=1000, metavar="N", help="pictures per output file (default 1000)")
    option("--batch", type=positive_number, default=16, metavar="N", help="pictures per batch (default 16)")
    option("--workers", type=positive_number, metavar="N", help="number of processes (default: one per GPU, or 1)")
    option("--ray", metavar="ADDRESS", help="address of a Ray cluster (default: start one here)")
    add_decoding_options(bulk)
    option("--json", action="store_true", help="print one JSON object at the end")
    add_model_options(bulk)


def _bulk(arguments: argparse.Namespace) -> int:
    """caption a folder or a bucket of millions of pictures with Ray; skips pictures that are done"""
    # Ray reads these when it is imported. By default it reports usage to its makers and runs code for everybody who can
    # reach it. The token keeps others out of our own cluster.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if arguments.ray is None:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    from wordlight.bulk.actor import BulkOptions
    from wordlight.bulk.job import CannotRun, Job
    from wordlight.bulk.parts import Parts
    from wordlight.bulk.storage import Storage, StorageUnusable

    decoding = decoding_options(arguments)  # fails before anything starts
    try:
        source, parts = Storage.at(arguments.input), Parts(Storage.at(arguments.output), arguments.format)
        pictures = source.pictures()
        done = parts.done(failed_too=not arguments.retry_failed)
    except StorageUnusable as error:
        fail(str(error))
    rest = [picture for picture in pictures if picture.path not in done]
    before = len(pictures) - len(rest)
    say = partial(print, flush=True, file=sys.stderr if arguments.json else sys.stdout)
    say(f"{len(pictures)} pictures, {before} of them done before")
    options = BulkOptions(
        source=arguments.input,
        output=arguments.output,
        format=arguments.format,
        attention=arguments.attention,
        model=arguments.model,
        device=arguments.device,
        engine=arguments.engine,
        precision=arguments.precision,
        decoding=decoding,
        batch=arguments.batch,
    )
    started = last = time.monotonic()
    captioned = failed = 0
    try:
        for part in Job(options, arguments.workers, arguments.ray).run(rest, arguments.part):
            captioned, failed = captioned + part.captioned, failed + part.failed
            if time.monotonic() - last >= _PROGRESS_SECONDS:
                last = time.monotonic()
                finished = captioned + failed
                rate = finished / (last - started)
                left = (len(rest) - finished) / rate / 60
                say(f"{finished} of {len(rest)}, {rate:.1f} per second, {left:.0f} minutes left")
    except CannotRun as error:
        fail(str(error))
    if rest:
        say(f"captioned {captioned} pictures; {failed} failed, and their lines say why")
    if arguments.json:
        print(json.dumps({"pictures": len(pictures), "done_before": before, "captioned": captioned, "failed": failed}))
    return 1 if failed else 0
