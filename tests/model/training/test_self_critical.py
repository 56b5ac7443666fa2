"""Self-critical training: its gradient, its baselines, and rising rewards in a run."""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.runtime.captioner import Captioner, CaptionerConfig
from model.text.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from model.training.batches import Batch, Size
from model.training.initialise import OriginUnusable
from model.training.recipe import Recipe, SelfCriticalRecipe
from model.training.self_critical import SelfCritical, sampled_logprobs
from model.training.trainer import Trainer

CPU = torch.device("cpu")
DECODER = tiny.RECIPE.captioner.decoder.model_copy(update={"dropout": 0.4})
CONFIG = CaptionerConfig(encoder="test_efficientnet", image_size=96, decoder=DECODER)
A, B = 4, 5  # the only words


class Worth:
    """A reward: a value for each caption, by its words and whether it ended."""

    def __call__(self, image: int, view: int, words: Sequence[int], *, ended: bool) -> float:
        return (1.0 + image) * words.count(A) - 0.5 * words.count(B) + 0.25 * ended + 0.1 * view


class Nothing:
    """A likelihood without a gradient."""

    figures: Sequence[str] = ("loss",)

    def shares(self, _captioner: Captioner, grid: torch.Tensor, _part: Batch, _epoch: int) -> dict[str, torch.Tensor]:
        return {"loss": grid.new_zeros(())}


@pytest.fixture
def captioner() -> Captioner:
    torch.manual_seed(0)
    return Captioner(CONFIG, Vocabulary(["a", "b"])).train()


def make_batch(images: int, seed: int = 0) -> Batch:
    """Return sizes that give a sampled word the weight 1."""
    numbers = np.arange(images)
    inputs, targets = torch.full((images, 1, 1), START), torch.full((images, 1, 1), PAD)
    return Batch(numbers, numbers % 2, numbers + 1000 * seed, inputs, targets, Size(images, images, images))


def test_sampled_logprobs_are_those_of_sampling() -> None:
    logits = torch.randn(1, 1, 3, 6, requires_grad=True)
    targets = torch.tensor([[[A, END, PAD]]])
    found = sampled_logprobs(logits, targets)
    first = logits[0, 0, 0, [A, B]].log_softmax(0)[0]  # no <end> yet
    second = logits[0, 0, 1, [END, A, B]].log_softmax(0)[0]
    torch.testing.assert_close(found, torch.stack([first, second, torch.zeros(())]).view(1, 1, 3))
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[..., [PAD, START, UNKNOWN]].any()


@pytest.mark.parametrize(("baseline", "temperature"), [("others", 1.0), ("others", 0.5), ("greedy", 1.0)])
def test_the_gradient_is_that_of_the_expected_reward(baseline: str, temperature: float, captioner: Captioner) -> None:
    # Captions of at most two words are so few that the expectation can be written out.
    grid = torch.randn(2, captioner.encoder.channels, 2, 2)
    recipe = SelfCriticalRecipe(samples=2000, baseline=baseline, weight=1.0, temperature=temperature)  # type: ignore[arg-type]
    objective = SelfCritical(recipe, Worth(), Nothing(), max_words=2)  # type: ignore[arg-type]
    weights = (captioner.decoder.output_bias, captioner.decoder.deep_hidden.weight)
    figures = objective.shares(captioner, grid, make_batch(2), epoch=0)
    found = torch.autograd.grad(figures["loss"], weights)
    assert captioner.decoder.training, "training mode is restored"

    captioner.decoder.eval()
    encoded = captioner.decoder.encode(grid)
    expected = torch.zeros(())
    for words in [(A,), (B,), *product((A, B), repeat=2)]:
        targets = torch.tensor([*words, END][:3]).expand(2, 1, -1)
        inputs = torch.tensor([START, *words]).expand(2, 1, -1)
        logits = captioner.decoder(encoded, inputs)[0] / temperature
        logprobs = sampled_logprobs(logits, targets)[:, 0]  # (2, T)
        ends = [(logprobs.sum(dim=1), True)]
        if len(words) == 2:  # the others are cut
            ends.append((logprobs[:, :2].sum(dim=1) + torch.log1p(-logprobs[:, 2].exp()), False))
        for total, ended in ends:
            for image in range(2):
                expected = expected + total[image].exp() * Worth()(image, image % 2, words, ended=ended) / 2
    assert figures["reward"].item() == pytest.approx(expected.item(), abs=0.05)
    wanted = torch.autograd.grad(-expected, weights)
    for one, other in zip(found, wanted, strict=True):
        cosine = torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
        assert cosine > 0.97
        assert one.norm() / other.norm() == pytest.approx(1, abs=0.15)


def test_the_self_critical_loss_is_without_dropout(captioner: Captioner) -> None:
    grid = torch.randn(2, captioner.encoder.channels, 2, 2)
    objective = SelfCritical(SelfCriticalRecipe(weight=1.0), Worth(), Nothing(), max_words=4)  # type: ignore[arg-type]
    losses = [objective.shares(captioner, grid, make_batch(2), epoch=0)["loss"].item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert losses[0] != objective.shares(captioner, grid, make_batch(2, seed=1), epoch=0)["loss"].item()


def test_self_critical_training_runs_in_bfloat16(captioner: Captioner) -> None:
    grid = torch.randn(2, captioner.encoder.channels, 2, 2)
    for baseline in ("others", "greedy"):
        recipe = SelfCriticalRecipe(weight=1.0, baseline=baseline)  # type: ignore[arg-type]
        with torch.autocast("cpu", torch.bfloat16):
            objective = SelfCritical(recipe, Worth(), Nothing(), max_words=4)  # type: ignore[arg-type]
            figures = objective.shares(captioner, grid, make_batch(2), epoch=0)
        captioner.zero_grad()
        figures["loss"].backward()
        for name, parameter in captioner.decoder.named_parameters():
            assert parameter.grad is not None, f"{name}: cast to bfloat16 without a gradient"


# A whole run.


def continued(**settings: object) -> Recipe:
    """Make a recipe that starts from another run, with its encoder."""
    return Recipe.model_validate(
        {
            **tiny.RECIPE.model_dump(),
            "epochs": 8,
            "images_per_step": 6,
            "learning_rate": 2e-3,
            "tail_learning_rate": 0.0,
            "self_critical": {"weight": 0.9},
            **settings,
        }
    )


def test_rewards_rise_from_the_level_of_the_original_run(tiny_data: Path, tiny_captioner: Path, tmp_path: Path) -> None:
    runs = tmp_path
    (runs / "first").symlink_to(tiny_captioner.parent)
    trainer = Trainer(continued(start_from="first"), tiny_data, runs / "second", CPU)
    original = Captioner.load(tiny_captioner)
    for name, tensor in original.state_dict().items():
        assert torch.equal(trainer.captioner.state_dict()[name], tensor), name
    encoder = {name: tensor.clone() for name, tensor in trainer.captioner.encoder.state_dict().items()}
    trainer.fit()
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in trainer.captioner.encoder.state_dict().items())
    events = EventAccumulator(str(runs / "second" / "logs")).Reload()
    rewards = [event.value for event in events.Scalars("train/reward")]
    assert len(rewards) == 16
    assert math.fsum(rewards[-4:]) > 1.05 * math.fsum(rewards[:4])
    assert len(events.Scalars("train/likelihood_loss")) == 16


def test_an_unusable_start_from_is_refused_in_one_line(tiny_data: Path, tiny_captioner: Path, tmp_path: Path) -> None:
    with pytest.raises(OriginUnusable, match=r"no captioner in nonesuch, nonesuch/best, .*/nonesuch/best") as caught:
        Trainer(continued(start_from="nonesuch"), tiny_data, tmp_path / "run", CPU)
    assert "\n" not in str(caught.value)
    captioner = tiny.RECIPE.captioner.model_dump()
    captioner["decoder"]["hidden_size"] = 16
    with pytest.raises(OriginUnusable, match=r"not like the one in .*: size mismatch") as caught:
        Trainer(continued(start_from=str(tiny_captioner), captioner=captioner), tiny_data, tmp_path / "run", CPU)
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OriginUnusable, match="cannot start from ") as caught:
        Trainer(continued(start_from=str(tmp_path)), tiny_data, tmp_path / "run", CPU)
    assert "\n" not in str(caught.value)
