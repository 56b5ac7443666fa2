"""The command: which pictures, whereto, with which captioner; and what it tells while it works."""

import argparse
import json
import os
import secrets
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from wordlight.captioners import add_decoding_options, add_model_options, decoding_options
from wordlight.command import number
from wordlight.failure import fail

if TYPE_CHECKING:
    from wordlight.command import AddCommand

_TELL_SECONDS = 10.0


def add_bulk(command: "AddCommand") -> None:
    """Add the command."""
    bulk = command("bulk", _bulk)
    option = bulk.add_argument
    option("input", metavar="INPUT", help="folder or bucket URL (s3://, gs://, ...) with pictures, at any depth")
    option("output", metavar="OUTPUT", help="the same, for the captions; pictures that are in it are not done again")
    option("--format", choices=["jsonl", "parquet"], default="jsonl", help="of the output (default jsonl)")
    option(
        "--attention",
        choices=["none", "heatmap", "both"],
        default="none",
        help="write each caption's words too, with these maps of each word (default none: no words)",
    )
    option("--retry-failed", action="store_true", help="try again what could not be captioned before")
    option("--part", type=number, default=1000, metavar="N", help="pictures a file of the output (default 1000)")
    option("--batch", type=number, default=16, metavar="N", help="pictures captioned at once (default 16)")
    option("--workers", type=number, metavar="N", help="processes with a device each (default: one a GPU, or 1)")
    option("--ray", metavar="ADDRESS", help="a Ray cluster that runs (default: one on this machine, for as long)")
    add_decoding_options(bulk)
    option("--json", action="store_true", help="one JSON object in the end; the rest goes to standard error")
    add_model_options(bulk)


def _bulk(arguments: argparse.Namespace) -> int:
    """caption a folder or a bucket of millions of pictures, with Ray; what is done already is not done again"""
    # Before Ray is imported. It would tell its makers how it is used; and it listens on all addresses of this machine,
    # to do whatever it is told: on a cluster of our own, by us alone.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if arguments.ray is None:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    from wordlight.bulk.captioning import Orders
    from wordlight.bulk.job import CannotRun, Job
    from wordlight.bulk.parts import Parts
    from wordlight.bulk.place import NoSuchPlace, Place

    decoding = decoding_options(arguments)  # what cannot be is said before anything starts
    try:
        source, parts = Place.at(arguments.input), Parts(Place.at(arguments.output), arguments.format)
        found = source.pictures()
        done = parts.done(failed_too=not arguments.retry_failed)
    except NoSuchPlace as error:
        fail(str(error))
    rest = [picture for picture in found if picture.path not in done]
    before = len(found) - len(rest)
    tell = partial(print, flush=True, file=sys.stderr if arguments.json else sys.stdout)
    tell(f"{len(found)} pictures, {before} of them done before")
    orders = Orders(
        source=arguments.input,
        output=arguments.output,
        form=arguments.format,
        attention=arguments.attention,
        model=arguments.model,
        device=arguments.device,
        engine=arguments.engine,
        precision=arguments.precision,
        decoding=decoding,
        batch=arguments.batch,
    )
    started = told = time.monotonic()
    captioned = failed = 0
    try:
        for part in Job(orders, arguments.workers, arguments.ray).run(rest, arguments.part):
            captioned, failed = captioned + part.captioned, failed + part.failed
            if time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                ready = captioned + failed
                rate = ready / (told - started)
                left = (len(rest) - ready) / rate / 60
                tell(f"{ready} of {len(rest)}, {rate:.1f} a second, {left:.0f} minutes left")
    except CannotRun as error:
        fail(str(error))
    if rest:
        tell(f"captioned {captioned} pictures; {failed} could not be, and their lines say why")
    if arguments.json:
        print(json.dumps({"pictures": len(found), "done_before": before, "captioned": captioned, "failed": failed}))
    return 1 if failed else 0
