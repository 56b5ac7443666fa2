"""Training: runs that resume after a kill, recipes, data, activations, the optimiser."""

import json
import math
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.network.encoder import Encoder
from model.runtime.captioner import Captioner
from model.runtime.pixels import normalise, to_pixels
from model.text.vocabulary import Vocabulary
from model.training.activations import trunk_activations
from model.training.checkpoint import RunMismatch, read_checkpoint, write_checkpoint
from model.training.dataset import DatasetUnusable, load_split
from model.training.optimiser import make_average, make_optimiser, rate_factor, trained_parameters
from model.training.recipe import RECIPES, Recipe, RecipeUnusable
from model.training.trainer import Trainer
from model.training.views import view_image

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


def changed(recipe: Recipe, **settings: object) -> Recipe:
    """Change settings of `recipe`, and validate it."""
    return Recipe.model_validate({**recipe.model_dump(), **settings})


# Everything that uses random numbers: dropout, random views, a trained tail. An epoch has four batches and two
# checkpoints, one of them in its middle.
CAPTIONER = tiny.RECIPE.captioner.model_dump()
SHORT = changed(
    tiny.RECIPE,
    captioner={**CAPTIONER, "decoder": {**CAPTIONER["decoder"], "dropout": 0.4}},
    views=4,
    tail_stages=3,
    epochs=3,
    checkpoint_steps=3,
)
CHECKPOINTS = 6


def train(recipe: Recipe, data: Path, run: Path) -> Trainer:
    trainer = Trainer(recipe, data, run, CPU)
    trainer.fit()
    return trainer


@pytest.fixture(scope="module")
def uninterrupted(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without interruption. Returns the folder of the run."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(SHORT, tiny_data, run)
    return run


# Runs that are killed.

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path

import torch
from model.training.recipe import Recipe
from model.training.trainer import Trainer

torch.set_num_threads(1)
recipe, data, run, last = sys.argv[1:]
count, fsync = 0, os.fsync

def fatal_fsync(file: int) -> None:
    global count
    count += 1
    if count == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(file)

os.fsync = fatal_fsync
Trainer(Recipe.model_validate_json(recipe), Path(data), Path(run), torch.device("cpu")).fit()
"""


def train_until_killed(recipe: Recipe, data: Path, run: Path, checkpoint: int) -> None:
    """Train in a process that is killed while it writes checkpoint number `checkpoint`, counted from 1."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, recipe.model_dump_json(), data, run, str(checkpoint)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def assert_same_run(run: Path, expected: Path) -> None:
    tensors, record = read_checkpoint(run / "checkpoint.safetensors")
    expected_tensors, expected_record = read_checkpoint(expected / "checkpoint.safetensors")
    assert record | {"time": None} == expected_record | {"time": None}
    assert tensors.keys() == expected_tensors.keys()
    different = [name for name in tensors if not torch.equal(tensors[name], expected_tensors[name])]
    assert different == []
    for path in (expected / "best").iterdir():
        assert (run / "best" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_same_recipe_gives_the_same_weights(tiny_data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    train(SHORT, tiny_data, tmp_path / "run")
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize(
    "checkpoint",
    [
        pytest.param(1, id="before-there-was-one", marks=pytest.mark.slow),
        pytest.param(2, id="at-the-end-of-an-epoch", marks=pytest.mark.slow),
        pytest.param(3, id="in-the-middle-of-an-epoch", marks=pytest.mark.slow),
        pytest.param(4, id="after-the-middle-of-an-epoch"),
        pytest.param(CHECKPOINTS, id="at-the-very-end", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_to_equal_weights(
    checkpoint: int, tiny_data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_until_killed(SHORT, tiny_data, run, checkpoint)
    assert (run / "checkpoint.safetensors").exists() == (checkpoint > 1)
    train(SHORT, tiny_data, run)
    assert_same_run(run, uninterrupted)


@pytest.mark.slow
def test_a_run_that_is_killed_repeatedly_finishes_with_equal_weights(
    tiny_data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    # Each process writes one whole checkpoint, and is killed while it writes its second.
    for _ in range(CHECKPOINTS - 1):
        train_until_killed(SHORT, tiny_data, tmp_path / "run", checkpoint=2)
    train(SHORT, tiny_data, tmp_path / "run")
    assert_same_run(tmp_path / "run", uninterrupted)


def test_training_time_adds_up_over_kills(tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_until_killed(SHORT, tiny_data, run, checkpoint=CHECKPOINTS)
    before = read_checkpoint(run / "checkpoint.safetensors")[1]["time"]
    train(SHORT, tiny_data, run)
    after = read_checkpoint(run / "checkpoint.safetensors")[1]["time"]
    for kind in ("seconds", "processor_seconds"):
        # The rest of the run alone would take less.
        assert after[kind] > before[kind] > 0


def test_a_finished_run_is_not_trained_again(tiny_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = changed(SHORT, epochs=1)
    best = train(recipe, tiny_data, run).position.best_cider
    before = (run / "checkpoint.safetensors").read_bytes()
    trainer = Trainer(recipe, tiny_data, run, CPU)
    assert trainer.fit() == best
    assert (run / "checkpoint.safetensors").read_bytes() == before


def test_a_run_refuses_to_resume_with_another_recipe(tiny_data: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "checkpoint.safetensors").read_bytes()
    with pytest.raises(RunMismatch, match="another recipe") as caught:
        Trainer(changed(SHORT, learning_rate=0.02), tiny_data, uninterrupted, CPU)
    assert "\n" not in str(caught.value)
    assert (uninterrupted / "checkpoint.safetensors").read_bytes() == before


def test_a_run_that_predates_a_setting_resumes_with_its_default(tiny_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoint.safetensors"
    recipe = changed(SHORT, epochs=1)
    train(recipe, tiny_data, path.parent)
    tensors, record = read_checkpoint(path)
    del record["run"]["recipe"]["self_critical"]
    del record["run"]["recipe"]["captioner"]["decoder"]["gate"]
    write_checkpoint(path, tensors, record)
    assert Trainer(recipe, tiny_data, path.parent, CPU).position.epoch == 1
    without_gate = recipe.model_dump()
    without_gate["captioner"]["decoder"]["gate"] = False
    with pytest.raises(RunMismatch):
        Trainer(Recipe.model_validate(without_gate), tiny_data, path.parent, CPU)


# Runs.


def test_tensorboard_shows_a_falling_loss_and_a_rising_score(tiny_captioner: Path) -> None:
    events = EventAccumulator(str(tiny_captioner.parent / "logs")).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == list(range(1, 4 * tiny.RECIPE.epochs + 1))
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])
    ciders = [event.value for event in events.Scalars("val/cider")]
    assert len(ciders) == tiny.RECIPE.epochs
    assert max(ciders) > 2 * ciders[0]


def test_the_best_captioner_is_saved(tiny_captioner: Path) -> None:
    _, record = read_checkpoint(tiny_captioner.parent / "checkpoint.safetensors")
    events = EventAccumulator(str(tiny_captioner.parent / "logs")).Reload()
    ciders = [event.value for event in events.Scalars("val/cider")]
    assert record["best_cider"] == pytest.approx(max(ciders))
    assert record["best_epoch"] == ciders.index(max(ciders))
    assert Captioner.load(tiny_captioner).config == tiny.RECIPE.captioner


def test_a_run_stops_when_patience_ends(tiny_data: Path, tmp_path: Path) -> None:
    # The rates are so low that nothing is learnt.
    recipe = changed(SHORT, epochs=50, patience=2, learning_rate=1e-12, tail_learning_rate=1e-12)
    train(recipe, tiny_data, tmp_path / "run")
    _, record = read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert (record["best_epoch"], record["epoch"]) == (0, 3)
    # It stays stopped when it is started again.
    assert Trainer(recipe, tiny_data, tmp_path / "run", CPU).fit() == record["best_cider"]
    assert read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")[1] == record


def test_training_changes_everything_but_the_trunk_and_depthwise_convolutions(
    uninterrupted: Path, tiny_data: Path
) -> None:
    before = Trainer(SHORT, tiny_data, uninterrupted.parent / "another", CPU).captioner
    tensors, _ = read_checkpoint(uninterrupted / "checkpoint.safetensors")
    stages = len(before.encoder.stages)
    trunk = tuple(f"encoder.stages.{stage}." for stage in range(stages - SHORT.tail_stages))
    tail = set(before.encoder.tail_parameters())
    trained = {name for name, p in before.named_parameters() if p in tail or not name.startswith("encoder.")}
    assert not any(name.startswith(trunk) for name in trained)
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, tensors[f"captioner.{name}"]) == (name not in trained), name


def test_a_frozen_encoder_does_not_change(tiny_data: Path, tmp_path: Path) -> None:
    trainer = Trainer(changed(SHORT, tail_stages=0, epochs=1), tiny_data, tmp_path / "run", CPU)
    before = {name: tensor.clone() for name, tensor in trainer.captioner.encoder.state_dict().items()}
    trainer.fit()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.captioner.encoder.state_dict().items())


def test_training_runs_in_bfloat16(tiny_data: Path, tmp_path: Path) -> None:
    train(changed(SHORT, bfloat16=True, epochs=1), tiny_data, tmp_path / "run")
    tensors, _ = read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert tensors["captioner.decoder.output_bias"].dtype == torch.float32


# Recipes.


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: path.stem)
def test_our_recipes_load_by_name_and_by_path(path: Path) -> None:
    assert Recipe.load(str(path.relative_to(RECIPES).with_suffix(""))) == Recipe.load(str(path))


def test_a_recipe_can_extend_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "family"\nepochs = 1\n[captioner.decoder]\ncell = "gru"\n')
    base = Recipe.load("family")
    decoder = base.captioner.decoder.model_copy(update={"cell": "gru"})
    captioner = base.captioner.model_copy(update={"decoder": decoder})
    assert Recipe.load(str(path)) == base.model_copy(update={"epochs": 1, "captioner": captioner})
    assert base.captioner.decoder.hidden_size != Recipe().captioner.decoder.hidden_size


def test_extending_an_unknown_recipe_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "nothing"\n')
    with pytest.raises(RecipeUnusable, match=r"nothing\.toml.*ours: .*family/lstm"):
        Recipe.load(str(path))


def test_a_recipe_can_set_nested_settings(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('epochs = 7\n[captioner]\nencoder = "test_efficientnet"\n[captioner.decoder]\nhidden_size = 8\n')
    recipe = Recipe.load(str(path))
    assert (recipe.epochs, recipe.captioner.encoder, recipe.captioner.decoder.hidden_size) == (
        7,
        "test_efficientnet",
        8,
    )
    assert recipe.seed == Recipe().seed


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"epoch = 3", "epoch: "),
        (b"epochs = 0", "epochs: "),
        (b"[captioner.decoder]\nsize = 3", "captioner.decoder.recurrent.size: "),
        (b'epochs = "many"', "epochs: "),
        (b"epochs =\n", "line 1"),
        (b"epochs = 3\nepochs = 4\n", "line 2"),
        (b"\xff\xfe", "utf-8"),
    ],
)
def test_an_invalid_recipe_is_refused_in_one_line(content: bytes, named: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeUnusable) as caught:
        Recipe.load(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert named in message


@pytest.mark.parametrize("name", ["nonesuch", "nowhere/nonesuch.toml"])
def test_an_unknown_recipe_is_refused_with_the_names_of_ours(name: str) -> None:
    with pytest.raises(RecipeUnusable, match=r"nonesuch.*frozen.*wordlight") as caught:
        Recipe.load(name)
    assert "\n" not in str(caught.value)


# Data.


def test_a_split_has_its_images_in_the_order_of_the_index(tiny_data: Path) -> None:
    samples = load_split(tiny_data, "val")
    index = json.loads((tiny_data / "captions.json").read_text())
    assert [sample.name for sample in samples] == [name for name in index if index[name]["split"] == "val"]
    assert samples[0].captions == index[samples[0].name]["captions"]
    assert samples[0].image().mode == "RGB"
    assert samples[0].image().size == (96, 96)


def test_images_can_be_in_tar_files_in_a_folder_named_flickr8k(tiny_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flickr8k"
    folder.mkdir()
    (folder / "captions.json").write_bytes((tiny_data / "captions.json").read_bytes())
    images = sorted(tiny_data.glob("*.png"))
    for number in range(2):
        with tarfile.open(folder / f"images-{number}.tar", "w") as archive:
            for image in images[number::2]:
                archive.add(image, image.name)
    original = load_split(tiny_data, "train")
    assert load_split(tmp_path, "train") == [replace(sample, style="flickr8k") for sample in original]


def test_a_folder_without_a_data_set_is_refused_in_one_line(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetUnusable, match=r"no captions\.json"):
        load_split(tmp_path, "train")
    with pytest.raises(DatasetUnusable, match="no split named 'tset'"):
        load_split(tiny_data, "tset")
    (tmp_path / "captions.json").write_bytes((tiny_data / "captions.json").read_bytes())
    with pytest.raises(DatasetUnusable, match=r"12 images of train are missing .* train-blue-green\.png"):
        load_split(tmp_path, "train")


# Activations of the trunk.


def activations(encoder: Encoder, data: Path, cache: Path, *, views: int = 3, seed: int = 1) -> np.ndarray:
    samples = load_split(data, "train")
    return trunk_activations(
        encoder, samples, image_size=96, views=views, seed=seed, bfloat16=False, cache=cache / "activations"
    )


def make_encoder(tail_stages: int = 3, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder("test_efficientnet", tail_stages)


@torch.inference_mode()
def test_activations_are_kept_for_every_view_of_every_image(tiny_data: Path, tmp_path: Path) -> None:
    encoder = make_encoder()
    kept = activations(encoder, tiny_data, tmp_path)
    samples = load_split(tiny_data, "train")
    assert kept.dtype == np.float16
    assert kept.shape[:2] == (3, 12)
    for view in range(3):
        for number in (0, 7):
            image = view_image(samples[number].image(), 1, samples[number].name, view)
            expected = encoder.trunk(normalise(to_pixels(image, 96).unsqueeze(0)))[0]
            torch.testing.assert_close(
                torch.from_numpy(np.array(kept[view, number])).float(), expected, atol=2e-3, rtol=2e-3
            )


def test_activations_are_computed_again_only_when_something_changes_them(tiny_data: Path, tmp_path: Path) -> None:
    def files() -> set[tuple[str, int]]:
        return {(path.name, path.stat().st_mtime_ns) for path in (tmp_path / "activations").iterdir()}

    activations(make_encoder(), tiny_data, tmp_path)
    first = files()
    assert len(first) == 1
    activations(make_encoder(), tiny_data, tmp_path)
    assert files() == first, "the same again"
    activations(make_encoder(seed=1), tiny_data, tmp_path)
    assert len(files()) == 2, "other weights"
    activations(make_encoder(tail_stages=2), tiny_data, tmp_path)
    assert len(files()) == 3, "another cut"
    activations(make_encoder(), tiny_data, tmp_path, seed=2)
    assert len(files()) == 4, "other random views"
    activations(make_encoder(), tiny_data, tmp_path, views=2)
    assert len(files()) == 5, "fewer views"
    activations(make_encoder(), tiny_data, tmp_path, views=2, seed=2)
    assert len(files()) == 5, "no random views, so the seed does not matter"
    assert first < files()


def test_unfinished_activations_are_not_used(tiny_data: Path, tmp_path: Path) -> None:
    whole = np.array(activations(make_encoder(), tiny_data, tmp_path))
    (path,) = (tmp_path / "activations").iterdir()
    os.truncate(path, path.stat().st_size // 2)
    path.rename(path.with_suffix(".part"))
    assert np.array_equal(activations(make_encoder(), tiny_data, tmp_path), whole)
    assert list((tmp_path / "activations").iterdir()) == [path]


# The optimiser.


def make_captioner(tail_stages: int = 3) -> Captioner:
    torch.manual_seed(0)
    return Captioner(SHORT.captioner, Vocabulary(["a", "dog"]), tail_stages)


def test_the_learning_rate_warms_up_linearly_and_falls_to_a_twentieth() -> None:
    rates = [rate_factor(step, 110, 10) for step in range(111)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.05 + 0.95 / 2)
    assert rates[110] == pytest.approx(0.05)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_factor(0, 100, 0) == pytest.approx(1.0)
    assert all(math.isfinite(rate_factor(step, 5, 10)) for step in range(20)), "a run shorter than its warm-up"


@pytest.mark.parametrize("tail_stages", [0, 3])
def test_every_trained_parameter_has_its_rate_and_only_matrices_have_weight_decay(tail_stages: int) -> None:
    captioner = make_captioner(tail_stages)
    tail = {id(parameter) for parameter in captioner.encoder.tail_parameters()}
    seen = []
    for group in make_optimiser(captioner, SHORT).param_groups:
        for parameter in group["params"]:
            seen.append(id(parameter))
            assert group["lr"] == (SHORT.tail_learning_rate if id(parameter) in tail else SHORT.learning_rate)
            assert group["weight_decay"] == (SHORT.weight_decay if parameter.ndim > 1 else 0.0)
    assert len(seen) == len(set(seen))
    assert set(seen) == {id(parameter) for parameter in trained_parameters(captioner)}


def test_the_average_follows_the_weights_and_forgets_the_initial_ones() -> None:
    captioner = make_captioner()
    average = make_average(captioner, decay=0.9)
    bias = captioner.decoder.output_bias
    for value in (1.0, 2.0, 3.0):
        torch.nn.init.constant_(bias, value)
        average.update_parameters(captioner)
    # The first update copies; later ones take (1 + n) / (10 + n) of the average while that is less than the decay.
    expected = 1.0
    for n, value in ((1, 2.0), (2, 3.0)):
        expected += (value - expected) * (1 - (1 + n) / (10 + n))
    assert average.module.decoder.output_bias.tolist() == pytest.approx([expected] * len(bias))
    for _ in range(200):
        average.update_parameters(captioner)
    assert average.module.decoder.output_bias.tolist() == pytest.approx([3.0] * len(bias), abs=1e-4)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert not any(module.training for module in average.modules())
    assert bias.requires_grad
