"""The state of a training run on disk. A kill at any moment leaves the previous checkpoint whole.

A checkpoint is a safetensors file with a JSON record, because nothing that we read is unpickled. Random numbers are
not part of the state: those of each step depend on the seed and the number of the step alone.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from model.files import whole_file
from model.runtime.captioner import Captioner
from model.training.recipe import Recipe

CHECKPOINT = "checkpoint.safetensors"  # in a run's folder


class RunMismatch(Exception):
    """The run folder holds a run of another recipe or of other data. The message is one line."""


@dataclass(slots=True)
class Position:
    """How far a run has come."""

    epoch: int = 0
    step: int = 0  # the next batch of the epoch
    best_cider: float = -1.0
    best_epoch: int = -1


class Stopwatch:
    """Measures how long a run has trained, over all interruptions: seconds, and processor seconds of all threads."""

    def __init__(self) -> None:
        self.seconds, self.processor_seconds = 0.0, 0.0
        self.start()

    def start(self) -> None:
        """Continue from now. The time since the last `read` does not count."""
        self._since = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return the times so far, as plain data for `resume`."""
        wall, processor = self._since
        self.start()
        self.seconds += self._since[0] - wall
        self.processor_seconds += self._since[1] - processor
        return {"seconds": self.seconds, "processor_seconds": self.processor_seconds}

    def resume(self, record: dict[str, float]) -> None:
        """Continue from what `read` returned in an earlier process."""
        self.seconds, self.processor_seconds = record["seconds"], record["processor_seconds"]
        self.start()


@dataclass(frozen=True, slots=True)
class RunState:
    """Everything that decides how a run continues. `identity` tells runs apart."""

    path: Path
    identity: dict[str, Any]
    captioner: Captioner
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    position: Position
    stopwatch: Stopwatch  # of training, including validation

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
        """Return to the state of the checkpoint."""
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
    """Raise RunMismatch if `path` is a checkpoint of a run with another `identity`."""
    if path.is_file() and _in_full(read_record(path)["run"]) != _in_full(identity):
        raise RunMismatch(f"{path.parent} holds a run of another recipe or data: choose another --run, or remove it")


def _in_full(identity: dict[str, Any]) -> dict[str, Any]:
    """Complete the recipe of an older run: settings that did not exist yet get their defaults."""
    try:
        return identity | {"recipe": Recipe.model_validate(identity["recipe"]).model_dump(mode="json")}
    except (KeyError, ValidationError):
        return identity


def write_checkpoint(path: Path, tensors: dict[str, torch.Tensor], record: dict[str, Any]) -> None:
    """Replace `path` by a new checkpoint, atomically."""
    # clone(): tied and expanded tensors share memory, which safetensors refuses.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with whole_file(path) as new:
        save_file(plain, new, metadata={"record": json.dumps(record)})


def read_record(path: Path) -> dict[str, Any]:
    """Read the record alone, without the tensors, which are large."""
    with safe_open(path, framework="pt") as file:
        record: dict[str, Any] = json.loads(file.metadata()["record"])
        return record


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors and the record that `write_checkpoint` wrote."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, read_record(path)


def with_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Add a prefix to the names of `tensors`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Select the tensors whose names have a prefix, and remove it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
