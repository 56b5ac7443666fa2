"""`wordlight family`: trains and scores the captioners of the family."""

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


def add_family(command: AddCommand) -> None:
    """Add the command."""
    family = command("family", _family)
    add_data_option(family, "folder of the data set")
    family.add_argument("--split", default="test", help="split to score on (default test)")
    add_decoding_options(family)
    add_runs_options(family)


def _family(arguments: argparse.Namespace) -> int:
    """train the nine captioners of the family, unless trained already, and write their scores to docs/family.md"""
    from model.evaluation.family import family_recipes, format_family, score_family, train_family, write_table
    from model.evaluation.scores import JavaMissing, require_java
    from model.training.checkpoint import RunMismatch
    from model.training.dataset import DatasetUnusable

    device, recipes = device_of(arguments), family_recipes()
    try:
        require_java()
        train_family(recipes, arguments.data, arguments.runs, device)
        members = score_family(
            recipes, arguments.data, arguments.runs, [arguments.split], decoding_options(arguments), device
        )
    except (DatasetUnusable, JavaMissing, RunMismatch) as error:
        fail(str(error))
    table = format_family(members, [arguments.split])
    write_table(table)
    print(table)
    print(json.dumps([member.as_dict() for member in members]))
    return 0
