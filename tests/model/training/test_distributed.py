"""A run in several processes or micro-batches gives the weights of the undivided run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import tiny

from model.training.checkpoint import read_checkpoint
from model.training.recipe import Recipe, SelfCriticalRecipe
from model.training.trainer import Trainer

ROOT = Path(__file__).parents[3]

# Batches have five, five and two images, so shares are never equal.
SHORT = tiny.RECIPE.model_copy(
    update={"images_per_step": 5, "epochs": 2, "views": 2, "learning_rate": 1e-3, "tail_learning_rate": 1e-4}
)
OBJECTIVES = {
    "likelihood": SHORT.model_copy(update={"label_smoothing": 0.1}),
    "self-critical": SHORT.model_copy(update={"self_critical": SelfCriticalRecipe(samples=3)}),
}


@pytest.fixture(scope="module")
def uneven_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the coloured pictures with captions of different numbers and lengths."""
    return tiny.write_data(tmp_path_factory.mktemp("data"), uneven=True)


@pytest.fixture(scope="module")
def undivided(uneven_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train each objective in one process that computes every batch at once. Returns the folders of the runs."""
    folder = tmp_path_factory.mktemp("undivided")
    for name, recipe in OBJECTIVES.items():
        Trainer(recipe, uneven_data, folder / name, torch.device("cpu")).fit()
    return {name: folder / name for name in OBJECTIVES}


def write_recipe(recipe: Recipe, path: Path) -> Path:
    """Write `recipe` as a file."""
    tables: dict[str, dict[str, object]] = {"": recipe.model_dump(exclude_none=True)}
    lines = []
    while tables:
        name, table = tables.popitem()
        lines += [f"[{name}]"] if name else []
        for key, value in table.items():
            if isinstance(value, dict):
                tables[f"{name}.{key}".removeprefix(".")] = value
            else:
                lines.append(f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}")
    path.write_text("\n".join(lines) + "\n")
    assert Recipe.load(str(path)) == recipe
    return path


def start(recipe: Recipe, data: Path, run: Path, processes: int) -> subprocess.Popen[str]:
    """Start `wordlight train` in `processes` processes, as a user does."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    path = write_recipe(recipe, run.parent / "recipe.toml")
    return subprocess.Popen(
        # Without "--", torchrun takes --run for an abbreviation of one of its own options.
        [sys.executable, *torchrun, "--", "wordlight", "train", path, "--data", data, "--run", run, "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    return output


def assert_same_weights(run: Path, expected: Path) -> None:
    tensors, record = read_checkpoint(run / "checkpoint.safetensors")
    others, other_record = read_checkpoint(expected / "checkpoint.safetensors")
    assert (record["epoch"], record["step"]) == (other_record["epoch"], other_record["step"])
    assert record["best_cider"] == pytest.approx(other_record["best_cider"], abs=1e-6)
    assert tensors.keys() == others.keys()
    for name in tensors:
        if not name.startswith("optimiser"):
            torch.testing.assert_close(
                tensors[name], others[name], atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_micro_batches_give_the_result_of_the_whole_batch(
    objective: str, uneven_data: Path, undivided: dict[str, Path], tmp_path: Path
) -> None:
    recipe = OBJECTIVES[objective].model_copy(update={"accumulate": 2})
    Trainer(recipe, uneven_data, tmp_path / "run", torch.device("cpu")).fit()
    assert_same_weights(tmp_path / "run", undivided[objective])


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_give_the_result_of_one(
    objective: str, uneven_data: Path, undivided: dict[str, Path], tmp_path: Path
) -> None:
    output = finish(start(OBJECTIVES[objective], uneven_data, tmp_path / "run", processes=2))
    assert output.count("best CIDEr on val") == 1, "only the first process reports"
    assert_same_weights(tmp_path / "run", undivided[objective])


@pytest.mark.slow
def test_killed_processes_resume_to_equal_weights(
    uneven_data: Path, undivided: dict[str, Path], tmp_path: Path
) -> None:
    # A checkpoint is written after every step. The processes are killed as soon as there is one.
    recipe = OBJECTIVES["self-critical"].model_copy(update={"accumulate": 2, "checkpoint_steps": 1, "epochs": 2})
    run = tmp_path / "run"
    process = start(recipe, uneven_data, run, processes=2)
    deadline = time.monotonic() + 60
    while not (run / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        os.sched_yield()
    kill(process)
    finish(start(recipe, uneven_data, run, processes=2))
    assert_same_weights(run, undivided["self-critical"])


def kill(process: subprocess.Popen[str]) -> None:
    """Kill torchrun and the processes that it started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
