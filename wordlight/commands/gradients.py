"""`wordlight gradients`: measures the reach of gradients in the family."""

import argparse
import json

from wordlight.commands.options import (
    AddCommand,
    add_data_option,
    add_runs_options,
    device_of,
)
from wordlight.terminal import fail


def add_gradients(command: AddCommand) -> None:
    """Add the command."""
    gradients = command("gradients", _gradients)
    add_data_option(gradients, "folder of the data set")
    add_runs_options(gradients)


def _gradients(arguments: argparse.Namespace) -> int:
    """measure how far back gradients reach in the captioners of the family and draw docs/gradients.svg"""
    from model.evaluation.gradients import draw, measure
    from model.runtime.captioner import CaptionerNotLoadable
    from model.training.dataset import DatasetUnusable

    try:
        curves = measure(arguments.data, arguments.runs, device_of(arguments))
    except (CaptionerNotLoadable, DatasetUnusable) as error:
        fail(f"{error} (`wordlight family` trains the family)")
    draw(curves)
    print(json.dumps([curve.as_dict() for curve in curves]))
    return 0
