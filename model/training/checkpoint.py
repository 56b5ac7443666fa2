"""The state of a training run on disk: written so that a kill at any moment leaves the previous one whole.

In: named tensors and a small JSON record; out: the same. A safetensors file, since nothing we read is unpickled.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model.files import whole_file


def write_checkpoint(path: Path, tensors: dict[str, torch.Tensor], record: dict[str, Any]) -> None:
    """Replace `path` by a new checkpoint in one step."""
    # clone(): tied and expanded tensors share memory, which safetensors refuses.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with whole_file(path) as new:
        save_file(plain, new, metadata={"record": json.dumps(record)})


def read_record(path: Path) -> dict[str, Any]:
    """The record alone, without the tensors, which are large."""
    with safe_open(path, framework="pt") as file:
        record: dict[str, Any] = json.loads(file.metadata()["record"])
        return record


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `write_checkpoint` was given."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, read_record(path)


def with_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`tensors` under longer names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of `tensors` whose names start with `prefix`, under their own names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
