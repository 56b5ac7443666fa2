"""The levers: that each changes one thing, and the table of what they gave."""

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny

from model.evaluation.family import Member, train_family
from model.evaluation.levers import (
    BASE,
    DOCUMENT,
    LEVERS,
    SPLITS,
    Lever,
    format_levers,
    gain,
    lever_recipes,
    score_levers,
    trained,
)
from model.evaluation.scores import JavaMissing
from model.options import DecodingOptions
from model.training.recipe import RECIPES, Recipe

CPU = torch.device("cpu")


def differences(one: dict[str, Any], other: dict[str, Any], path: str = "") -> set[str]:
    """Where two nested dictionaries differ; a table that only one of them has is one place."""
    found = set()
    for name in one:
        if isinstance(one[name], dict) and isinstance(other[name], dict):
            found |= differences(one[name], other[name], f"{path}{name}.")
        elif one[name] != other[name]:
            found.add(f"{path}{name}")
    return found


def test_each_lever_changes_one_thing() -> None:
    recipes = lever_recipes()
    assert {path.stem for path in (RECIPES / "levers").glob("*.toml")} == set(LEVERS)
    base = recipes[BASE].model_dump()
    changed = {name: differences(base, recipes[name].model_dump()) for name in LEVERS}
    # Two layers are what top-down attention needs.
    assert changed.pop("top-down") == {"captioner.decoder.arrangement", "captioner.decoder.depth"}
    # Both go on from the base, more slowly.
    assert changed.pop("longer") == {"start_from", "learning_rate"}
    assert changed.pop("self-critical") == {"start_from", "learning_rate", "self_critical"}
    assert all(len(places) == 1 for places in changed.values()), changed
    assert len(set.union(*changed.values())) == len(changed), "no two change the same"
    text = DOCUMENT.read_text()
    assert all(f"| `{name}` | " in text for name in LEVERS), "each is explained"


def test_who_is_learnt_from_is_trained_before() -> None:
    order = list(lever_recipes())
    teachers = Recipe.load("levers/distilled").distillation.teachers
    assert all(order.index(name) < order.index("distilled") for name in teachers)
    assert order[0] == BASE


def test_images_are_compared_in_pairs() -> None:
    base = np.random.default_rng(0).random(200)
    assert gain(base + 0.25, base) == (0.25, 0.25, 0.25), "pictures differ, but not in this"
    mean, low, high = gain(base + np.tile([0.5, -0.4], 100), base)
    assert mean == pytest.approx(0.05)
    assert -0.03 < low < 0 < mean < high < 0.13  # 1.96 * 0.45 / sqrt(200) = 0.06 on either side
    assert gain(base, base + np.tile([0.5, -0.4], 100))[1:] == pytest.approx((-high, -low), abs=0.01)


def test_the_table_has_differences_beside_the_figures() -> None:
    scores = {split: {"cider": 0.4321} for split in SPLITS}
    base = Lever(Member(BASE, 2_000_000, 600.0, 4, scores), {})
    lever = Lever(Member("untied", 3_000_000, 660.0, 4, scores), dict.fromkeys(SPLITS, (0.0123, -0.004, 0.0277)))
    table = format_levers([base, lever])
    assert "| `lstm-additive` | 2.00 M | 10.0 min | 0.432 |  | 0.432 |  |\n" in table
    assert "| `untied` | 3.00 M | 11.0 min | 0.432 | +0.012 (-0.004 to +0.028) |" in table
    assert len({line.count("|") for line in table.splitlines()}) == 1


# A whole table.


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs: the base, one lever, and one that was not trained to its end."""
    folder = tmp_path_factory.mktemp("runs")
    short = tiny.RECIPE.model_copy(update={"epochs": 1, "tail_stages": 0})
    smoothed = short.model_copy(update={"label_smoothing": 0.5, "epochs": 2})
    train_family({BASE: short, "no-average": short, "no-smoothing": smoothed}, tiny_data, folder, CPU)
    return folder


def test_only_what_was_trained_to_its_end_counts(runs: Path) -> None:
    recipes = dict.fromkeys([BASE, "untied", "no-smoothing"], tiny.RECIPE.model_copy(update={"epochs": 2}))
    assert trained(recipes, runs) == ["no-smoothing"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_levers_are_compared_to_the_base_on_both_splits(runs: Path, tiny_data: Path, tmp_path: Path) -> None:
    for path in tiny_data.iterdir():
        if path.is_file():
            (tmp_path / path.name).symlink_to(path)
    index = json.loads((tiny_data / "captions.json").read_text())
    names = [name for name, entry in index.items() if entry["split"] == "val"][:5]
    (tmp_path / "coco-dev").mkdir()
    (tmp_path / "coco-dev" / "annotations.json").write_text(
        json.dumps({name: {"captions": index[name]["captions"], "boxes": None} for name in names})
    )
    with tarfile.open(tmp_path / "coco-dev" / "images.tar", "w") as archive:
        for name in names:
            archive.add(tiny_data / name, name)
    try:
        found = score_levers(["no-average", "no-smoothing"], tmp_path, runs, DecodingOptions(), CPU)
    except JavaMissing as missing:
        if os.environ.get("WORDLIGHT_REQUIRE_JAVA"):
            raise
        pytest.skip(f"NOT SCORED: {missing}")
    assert [lever.member.name for lever in found] == [BASE, "no-smoothing", "no-average"]
    base, other, same = found
    assert base.gains == {}
    assert same.gains == dict.fromkeys(SPLITS, (0, 0, 0)), "its recipe is the base's here"
    for split in SPLITS:
        difference = other.member.scores[split]["cider"] - base.member.scores[split]["cider"]
        assert other.gains[split][0] == pytest.approx(difference, abs=2e-4)
    assert any(gains != (0, 0, 0) for gains in other.gains.values())
    json.dumps([lever.as_dict() for lever in found])
