"""Distillation: the divergence from several teachers, who learns from it, and whom it can be had from."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.captioner import Captioner, CaptionerConfig
from model.training.batches import Batch, Size, pad_captions
from model.training.distillation import Distillation
from model.training.initialise import OriginUnusable
from model.training.likelihood import Likelihood
from model.training.recipe import Recipe
from model.training.trainer import Trainer
from model.vocabulary import PAD, Vocabulary

CPU = torch.device("cpu")
CONFIG = CaptionerConfig(encoder="test_efficientnet", image_size=96, decoder=tiny.RECIPE.captioner.decoder)
LIKELIHOOD = Likelihood(tiny.RECIPE)


def captioner(seed: int) -> Captioner:
    torch.manual_seed(seed)
    found = Captioner(CONFIG, Vocabulary(["a", "b", "c"])).eval()
    torch.nn.init.normal_(found.decoder.output_bias)
    return found


def batch(images: int = 2) -> Batch:
    numbers = np.arange(images)
    inputs, targets = pad_captions([[[4, 5, 6], [5]], [[6, 6], [4, 4]]][:images])
    return Batch(numbers, numbers, numbers, inputs, targets, Size(2, 4, 12))


def grid(student: Captioner) -> torch.Tensor:
    return torch.randn(2, student.encoder.channels, 2, 2, generator=torch.Generator().manual_seed(0))


def test_the_divergence_is_that_of_the_mean_of_the_teachers() -> None:
    student, teachers, part = captioner(0), [captioner(1), captioner(2)], batch()
    seen = grid(student)
    found = Distillation(0.25, teachers, LIKELIHOOD).shares(student, seen, part, epoch=0)
    told = [one.decoder(one.memorise(seen), part.inputs)[0].softmax(dim=3) for one in (student, *teachers)]
    mean = (told[1] + told[2]) / 2
    divergences = (mean * (mean / told[0]).log()).sum(dim=3)  # (B, R, T)
    expected = sum(divergences[index].item() for index in np.ndindex(part.targets.shape) if part.targets[index] != PAD)
    assert found["divergence"].item() == pytest.approx(expected / 12, rel=1e-4)
    likelihood = LIKELIHOOD.shares(student, seen, part, epoch=0)["loss"].item()
    assert found["likelihood_loss"].item() == pytest.approx(likelihood)
    assert found["loss"].item() == pytest.approx(0.25 * expected / 12 + 0.75 * likelihood, rel=1e-4)


def test_who_is_his_own_teacher_has_nothing_to_learn() -> None:
    student = captioner(0)
    shares = Distillation(1.0, [student], LIKELIHOOD).shares(student, grid(student), batch(), epoch=0)
    assert shares["loss"].item() == pytest.approx(0, abs=1e-5)


def test_the_shares_of_the_parts_add_up_and_only_the_student_learns() -> None:
    student, teacher = captioner(0), captioner(1)
    objective, seen, whole = Distillation(0.5, [teacher], LIKELIHOOD), grid(student), batch()
    expected = objective.shares(student, seen, whole, epoch=0)
    parts = [objective.shares(student, seen[[image]], part, epoch=0) for image, part in enumerate(whole.split(2))]
    for name, figure in expected.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(figure.item(), rel=1e-4), name
    expected["loss"].backward()
    assert student.decoder.output_bias.grad is not None
    assert all(parameter.grad is None for parameter in teacher.parameters())


# A whole run.


def recipe(**settings: object) -> Recipe:
    short = {"epochs": 2, "tail_stages": 0, "images_per_step": 6}
    return Recipe.model_validate({**tiny.RECIPE.model_dump(), **short, **settings})


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, with two to learn from."""
    folder = tmp_path_factory.mktemp("runs")
    for name, rate in (("one", 0.01), ("two", 0.02)):
        Trainer(recipe(learning_rate=rate, epochs=6), tiny_data, folder / name, CPU).fit()
    return folder


def test_a_student_comes_near_to_those_it_learns_from(runs: Path, tiny_data: Path) -> None:
    ours = recipe(distillation={"teachers": ["one", "two"], "weight": 0.9}, epochs=6)
    Trainer(ours, tiny_data, runs / "student", CPU).fit()
    events = EventAccumulator(str(runs / "student" / "logs")).Reload()
    divergences = [event.value for event in events.Scalars("train/divergence")]
    assert sum(divergences[-2:]) < 0.5 * sum(divergences[:2])


def test_a_teacher_must_use_the_same_words_and_see_the_same(
    runs: Path, tiny_data: Path, tiny_captioner: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").symlink_to(runs / "one")
    other = recipe(distillation={"teachers": ["one"]}, min_word_count=13)
    with pytest.raises(OriginUnusable, match="another vocabulary"):
        Trainer(other, tiny_data, tmp_path / "run", CPU)
    with pytest.raises(OriginUnusable, match="another encoder"):  # it was trained with the decoder
        Trainer(recipe(distillation={"teachers": [str(tiny_captioner)]}), tiny_data, tmp_path / "run", CPU)
    finer = tiny.RECIPE.captioner.model_copy(update={"output_stride": 16})
    with pytest.raises(OriginUnusable, match="another encoder"):
        Trainer(recipe(distillation={"teachers": ["one"]}, captioner=finer), tiny_data, tmp_path / "run", CPU)
    with pytest.raises(OriginUnusable, match="no captioner in"):
        Trainer(recipe(distillation={"teachers": ["nobody"]}), tiny_data, tmp_path / "run", CPU)
    with pytest.raises(ValueError, match="frozen encoder"):
        recipe(distillation={"teachers": ["one"]}, tail_stages=1)
