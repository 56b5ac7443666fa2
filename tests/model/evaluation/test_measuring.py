"""All measurements of a captioner that was trained on a tiny world of things."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from support import things, tiny
from support.command import start_command

from model.decoding.options import DecodingOptions
from model.evaluation.captions import score_captions, write_captions
from model.evaluation.coco_dev import load_coco_dev
from model.evaluation.deletion import blank, deletion, most_attended
from model.evaluation.evaluate import Evaluation
from model.evaluation.report import format_table, rounded
from model.runtime.captioner import Captioner
from model.training.dataset import DatasetUnusable, load_split

OPTIONS = DecodingOptions(beam_size=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return things.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.train_captioner(data, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def captioner(folder: Path) -> Captioner:
    return Captioner.load(folder)


def test_coco_dev_loads_with_boxes(data: Path) -> None:
    photographs = load_coco_dev(data)
    assert len(photographs) == 12
    first = photographs[0]
    assert (first.name, first.captions) == ("dog-bird.png", things.captions("dog", "bird"))
    assert [(box.top, box.bottom, box.name) for box in first.boxes or []] == [(0, 0.5, "dog"), (0.5, 1, "bird")]
    assert sum(photograph.boxes is None for photograph in photographs) == 3
    assert first.image().size == (96, 96)


def test_an_incomplete_coco_dev_is_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetUnusable, match="--data must name"):
        load_coco_dev(tmp_path)
    inside = tmp_path / "coco-dev"
    inside.mkdir()
    (inside / "annotations.json").write_bytes((data / "coco-dev/annotations.json").read_bytes())
    (inside / "images.tar").write_bytes(b"no archive")
    with pytest.raises(DatasetUnusable, match="damaged"):
        load_coco_dev(tmp_path)
    with tarfile.open(inside / "images.tar", "w"):
        pass
    with pytest.raises(DatasetUnusable, match="does not describe"):
        load_coco_dev(tmp_path)


def test_scored_sentences_keep_their_order(captioner: Captioner, data: Path) -> None:
    samples = load_split(data, "val")[:3]
    told = [["a dog", "one bird over a boat"], [], ["a bus above"] * 70]  # more than one batch
    scored = score_captions(captioner, samples, told, "some")
    assert [[caption.text for caption in of_image] for of_image in scored] == told
    encoded = captioner.encode(captioner.prepare(samples[2].image()).unsqueeze(0))
    alone = captioner.score(encoded, ["a bus above"])[0].logprob
    assert scored[2][69].logprob == pytest.approx(alone, abs=1e-4)


def test_blank_fills_the_most_attended_cells_with_the_mean_colour() -> None:
    cells = most_attended(np.array([[0.1, 0.5], [0.3, 0.1]]), share=0.5)
    assert cells.tolist() == [[False, True], [True, False]]
    assert most_attended(np.full((3, 3), 1 / 9), share=0.01).sum() == 1
    pixels = torch.zeros(3, 5, 5, dtype=torch.uint8)
    pixels[0, :3, :3] = 250  # inside the first cell, which stays
    blanked = blank(pixels, np.array([[False, True], [True, True]]))
    assert torch.equal(blanked[0, :3, :3], pixels[0, :3, :3])
    assert set(blanked[0, 3:].unique().tolist()) == {90}  # 250 x 9 / 25
    assert blanked[1:].count_nonzero() == 0


def test_hiding_attended_cells_costs_more_than_hiding_others(captioner: Captioner, data: Path) -> None:
    samples = load_split(data, "val")
    captions = write_captions(captioner, samples, OPTIONS, "val")
    found = deletion(captioner, samples, captions)
    assert found["words"] == 24
    assert found == deletion(captioner, samples, captions)
    assert found["fall_attended"] > found["fall_random"]


def test_attention_and_honesty_of_a_tiny_captioner(captioner: Captioner, data: Path) -> None:
    evaluation = Evaluation(captioner, data, OPTIONS)
    scores = rounded(evaluation.attention() | evaluation.honesty())
    assert json.loads(json.dumps(scores)) == scores
    own, people = scores["grounding"]["own"], scores["grounding"]["people"]
    assert (own["words"], people["words"]) == (9 * 2, 9 * 3 * 2)
    assert own["area"] == pytest.approx(0.5)
    # It has memorised its world.
    assert scores["hallucination"] == {"captions": 9, "things_named": 18, "chair_i": 0, "chair_s": 0}
    assert scores["confidence"]["val"]["captions"] == 6
    assert scores["confidence"]["coco-dev"]["captions"] == 12
    agreement = scores["agreement"]
    assert agreement["judgements"] == {"val own": 6 * 5, "test expert": 12 * 11, "test crowd": 144}
    assert agreement["tau"][agreement["chosen"]]["test expert tau_c"] > 0.2
    assert agreement["tau"][agreement["chosen"]]["test crowd tau_b"] > 0.4


def test_missing_data_is_reported_before_the_work(captioner: Captioner, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "flickr8k", tmp_path / "flickr8k")
    evaluation = Evaluation(captioner, tmp_path, OPTIONS)
    evaluation.require("test")
    with pytest.raises(DatasetUnusable, match="coco-dev"):
        evaluation.require("test", attention=True)
    shutil.copytree(data / "coco-dev", tmp_path / "coco-dev")
    (tmp_path / "flickr8k" / "expert-annotations.txt").unlink()
    evaluation.require("coco-dev", attention=True)
    with pytest.raises(DatasetUnusable, match="expert"):
        evaluation.require("test", honesty=True)


@pytest.mark.slow
@pytest.mark.usefixtures("java")
def test_the_command_measures_everything_and_ends_with_json(data: Path, folder: Path, tmp_path: Path) -> None:
    options = ("--split", "coco-dev", "--attention", "--honesty", "--figures", str(tmp_path), "--beam", "2")
    command = start_command("evaluate", "--data", str(data), "--model", str(folder), *options)
    assert command.process.wait(100) == 0, command.lines
    command.wait_for_line("(end of output)")
    scores = json.loads(command.lines[-2])
    assert (scores["split"], scores["images"], scores["references"]) == ("coco-dev", 12, 3)
    asked_for = {"cider", "bad_endings", "grounding", "deletion", "hallucination", "confidence", "agreement"}
    assert asked_for <= set(scores)
    assert (tmp_path / "reliability.svg").stat().st_size > 1000
    assert any(line.split() == ["cider", f"{scores['cider']:.4f}"] for line in command.lines)


def test_tables_show_every_number_and_leave_out_lists() -> None:
    scores = {
        "split": "val",
        "cider": 0.51234,
        "rows": {"a": {"x": 1, "y": 0.5}, "b": {"x": 2}},
        "curve": {"a": [{"n": 1}]},
    }
    assert [line.split() for line in format_table(scores).splitlines()] == [
        ["split", "val"],
        ["cider", "0.5123"],
        [],
        ["rows"],
        ["x", "y"],
        ["a", "1", "0.5000"],
        ["b", "2"],
    ]
