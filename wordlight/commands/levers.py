"""`wordlight levers`: trains and scores a captioner with one change at a time."""

import argparse
import json

from wordlight.commands.options import (
    AddCommand,
    add_data_option,
    add_decoding_options,
    add_runs_options,
    decoding_options,
    device_of,
)
from wordlight.terminal import fail


def add_levers(command: AddCommand) -> None:
    """Add the command."""
    levers = command("levers", _levers)
    add_data_option(levers, "folder that holds flickr8k/, coco-dev/ and text/")
    add_decoding_options(levers)
    levers.add_argument("--trained", action="store_true", help="train nothing; score the captioners already trained")
    add_runs_options(levers)


def _levers(arguments: argparse.Namespace) -> int:
    """train a captioner with one change at a time and write the scores to docs/levers.md"""
    from model.captioner import CaptionerNotLoadable
    from model.evaluation.family import train_family, write_table
    from model.evaluation.levers import DOCUMENT, format_levers, lever_recipes, score_levers, trained
    from model.evaluation.scores import JavaMissing, require_java
    from model.training.dataset import DatasetUnusable
    from model.training.origin import OriginUnusable
    from model.training.state import RunMismatch

    device, recipes = device_of(arguments), lever_recipes()
    try:
        require_java()
        if not arguments.trained:
            train_family(recipes, arguments.data, arguments.runs, device)
        names = trained(recipes, arguments.runs)
        levers = score_levers(names, arguments.data, arguments.runs, decoding_options(arguments), device)
    except (CaptionerNotLoadable, DatasetUnusable, JavaMissing, OriginUnusable, RunMismatch) as error:
        fail(str(error))
    table = format_levers(levers)
    write_table(table, DOCUMENT)
    print(table)
    print(json.dumps([lever.as_dict() for lever in levers]))
    return 0
