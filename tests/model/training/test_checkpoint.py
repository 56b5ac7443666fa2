"""The state of a training run on disk."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch

from model.training.checkpoint import read_checkpoint, with_prefix, without_prefix, write_checkpoint


def test_a_checkpoint_is_restored_exactly(tmp_path: Path) -> None:
    shared = torch.randn(3, 4)
    tensors = {
        "plain": torch.randn(2, 3),
        "whole": torch.tensor([1, 2**40]),
        "bytes": torch.get_rng_state(),
        "half": torch.randn(5).bfloat16(),
        "scalar": torch.tensor(0.1),
        "nothing": torch.zeros(0, 3),
        "strange": torch.tensor([float("nan"), float("inf"), -0.0]),
        "shared": shared,
        "turned": shared.T,
        "expanded": shared[:1].expand(6, -1),
        "learning": torch.nn.Parameter(torch.ones(2)),
    }
    record = {"epoch": 3, "best_cider": 0.1 + 0.2, "recipe": {"name": "größe", "list": [1, None]}}
    write_checkpoint(tmp_path / "checkpoint.safetensors", tensors, record)
    found, found_record = read_checkpoint(tmp_path / "checkpoint.safetensors")
    assert found_record == record
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype, name
        torch.testing.assert_close(found[name], tensor.detach(), rtol=0, atol=0, equal_nan=True)


def test_a_new_checkpoint_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    for epoch in range(2):
        write_checkpoint(path, {"x": torch.full((2,), float(epoch))}, {"epoch": epoch})
    tensors, record = read_checkpoint(path)
    assert (tensors["x"].tolist(), record) == ([1.0, 1.0], {"epoch": 1})
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_checkpoint_stays_whole_until_the_new_one_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, {"x": torch.zeros(2)}, {"epoch": 0})

    def full_disk(_: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="no space"):
            write_checkpoint(path, {"x": torch.ones(2)}, {"epoch": 1})
    tensors, record = read_checkpoint(path)
    assert (tensors["x"].tolist(), record) == ([0.0, 0.0], {"epoch": 0})
    write_checkpoint(path, {"x": torch.ones(2)}, {"epoch": 1})
    assert read_checkpoint(path)[1] == {"epoch": 1}


def test_a_checkpoint_needs_no_unpickling(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, {"x": torch.tensor([1.5, 2.5])}, {"epoch": 7})
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header["__metadata__"]["record"]) == {"epoch": 7}
    assert struct.unpack("<2f", content[8 + length :]) == (1.5, 2.5)


def test_prefixes_are_added_and_removed_exactly() -> None:
    ones, twelves = {"a.b": torch.ones(1)}, {"a.b": torch.zeros(1)}
    both = with_prefix("1", ones) | with_prefix("12", twelves)
    assert both.keys() == {"1.a.b", "12.a.b"}
    assert without_prefix("1", both) == ones
    assert without_prefix("12", both) == twelves
