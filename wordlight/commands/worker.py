"""`wordlight worker`: runs a worker."""

import argparse
import os

from wordlight.commands.configuration import read_settings
from wordlight.commands.options import AddCommand
from wordlight.terminal import fail


def add_worker(command: AddCommand) -> None:
    """Add the command."""
    command("worker", _worker)


def _worker(_arguments: argparse.Namespace) -> int:
    """run a worker, which owns a device and captions queued pictures"""
    # OpenMP reads this when PyTorch is loaded. PyTorch's threads spin between operators, which is faster than sleeping.
    # The default spins three times as long and takes CPU time from the web process.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")

    from model.runtime.captioner import CaptionerNotLoadable
    from model.runtime.device import DeviceUnavailable
    from model.runtime.inference import EngineUnavailable
    from worker.main import run
    from worker.settings import WorkerSettings

    try:
        return run(read_settings(WorkerSettings))
    except (CaptionerNotLoadable, DeviceUnavailable, EngineUnavailable) as error:
        fail(str(error), os.EX_CONFIG)
