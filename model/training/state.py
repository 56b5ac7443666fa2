"""A training run's state: all that decides how it goes on. In and out: its checkpoint on disk.

Chance is no part of it: every step's is a pure function of the seed and the step's number.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch.optim.swa_utils import AveragedModel

from model.captioner import Captioner
from model.training.checkpoint import read_checkpoint, read_record, with_prefix, without_prefix, write_checkpoint
from model.training.recipe import Recipe
from model.training.stopwatch import Stopwatch


class RunMismatch(Exception):
    """The run folder holds a run of another recipe, or of other data. The message is one line."""


@dataclass(slots=True)
class Position:
    """How far a run is."""

    epoch: int = 0
    step: int = 0  # the batch of the epoch that is next
    best_cider: float = -1.0
    best_epoch: int = -1


@dataclass(frozen=True, slots=True)
class RunState:
    """What the optimiser changes; `identity` is what makes the run this one."""

    path: Path
    identity: dict[str, Any]
    captioner: Captioner
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    position: Position
    stopwatch: Stopwatch  # of training, validation included

    def save(self) -> None:
        """Replace the checkpoint."""
        tensors = with_prefix("captioner", self.captioner.state_dict())
        tensors |= with_prefix("average", self.average.state_dict())
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= with_prefix(f"optimiser.{number}", state)
        write_checkpoint(
            self.path, tensors, {"run": self.identity, "time": self.stopwatch.read(), **asdict(self.position)}
        )

    def restore(self) -> None:
        """Go back to where the checkpoint was written."""
        tensors, record = read_checkpoint(self.path)
        self.captioner.load_state_dict(without_prefix("captioner", tensors))
        self.average.load_state_dict(without_prefix("average", tensors))
        optimiser = self.optimiser.state_dict()
        states = without_prefix("optimiser", tensors)
        numbers = {name.partition(".")[0] for name in states}
        optimiser["state"] = {int(number): without_prefix(number, states) for number in numbers}
        self.optimiser.load_state_dict(optimiser)
        for name in asdict(self.position):
            setattr(self.position, name, record[name])
        self.stopwatch.resume(record["time"])


def check_same_run(path: Path, identity: dict[str, Any]) -> None:
    """Raises RunMismatch where there is a checkpoint of a run with another `identity`."""
    if path.is_file() and _in_full(read_record(path)["run"]) != _in_full(identity):
        raise RunMismatch(f"{path.parent} holds a run of another recipe or data: choose another --run, or remove it")


def _in_full(identity: dict[str, Any]) -> dict[str, Any]:
    """`identity` with the settings that its recipe could not have yet, which then were what they are by default."""
    try:
        return identity | {"recipe": Recipe.model_validate(identity["recipe"]).model_dump(mode="json")}
    except (KeyError, ValidationError):
        return identity
