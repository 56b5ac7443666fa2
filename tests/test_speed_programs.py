"""The programs that measure speed, each in its smallest form: they run, and end with figures that make sense."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from support.benchmark import figures_of as ended_with
from support.benchmark import run

needs_rivals = pytest.mark.skipif(
    find_spec("transformers") is None or find_spec("litserve") is None,
    reason="needs transformers and litserve, which are for one benchmark only",
)


def figures_of(benchmark: str, *arguments: object) -> dict[str, Any]:
    """The figures that a benchmark ends with, on one thread."""
    figures = ended_with(benchmark, *arguments, OMP_NUM_THREADS="1")
    assert figures["benchmark"] == benchmark
    return figures


def in_order(figures: dict[str, float]) -> bool:
    """Whether median and quartiles can be those of anything that took time."""
    return 0 < figures["low"] <= figures["median"] <= figures["high"]


@pytest.mark.slow
def test_stages_are_timed_and_captions_compared(tiny_captioner: Path, tiny_data: Path) -> None:
    sizes = ("--batch", 1, 2, "--rounds", 2, "--pictures", 6)
    figures = figures_of("stages", "--model", tiny_captioner, "--data", tiny_data, *sizes)
    assert [row["batch"] for row in figures["batches"]] == [1, 2]
    assert figures["engines"] == ["eager", "auto"]
    row = figures["batches"][1]["engines"]["auto"]
    assert in_order(row["times_reference"])
    stages = {"decode", "prepare", "encoder alone", "encode", "beam 3", "greedy", "consensus", "all"}
    assert set(row["ms_a_picture"]) == stages
    assert all(map(in_order, row["ms_a_picture"].values()))
    assert in_order(row["captions_a_second"])
    assert in_order(row["ceiling_a_second"])
    # The tiny captioner knows its pictures by heart.
    assert figures["agreement"]["pictures"] == 6
    assert figures["agreement"]["cider"]["eager"] > 1
    auto = figures["agreement"]["engines"]["auto"]
    assert (auto["same"], auto["cider_change"]) == (1, 0)
    assert auto["largest_difference"] < 1e-3


def test_the_usual_search_finds_what_ours_finds(tiny_captioner: Path, tiny_data: Path) -> None:
    sizes = ("--batch", 1, 12, "--rounds", 2, "--beam", 3)
    figures = figures_of("beam_search", "--model", tiny_captioner, "--data", tiny_data, *sizes)
    assert figures["compared"] == 2 * 12
    row = figures["batches"][1]
    assert set(row["times_usual"]) == {"beams of an image together", "every hypothesis alone"}
    assert all(map(in_order, row["times_usual"].values()))
    assert all(map(in_order, row["ms_a_picture"].values()))


@needs_rivals
@pytest.mark.slow
def test_all_rivals_caption_the_same_pictures(tiny_captioner: Path, tiny_data: Path) -> None:
    sizes = ("--batch", 1, 2, "--rival-batch", 1, "--rounds", 2, "--threads", 1, "--toy")
    figures = figures_of("rivals", "--model", tiny_captioner, "--data", tiny_data, *sizes)
    assert set(figures["rivals"]) == {"wordlight", "litserve", "blip-base", "vit-gpt2"}
    for name, row in figures["rivals"].items():
        assert set(row["captions_a_second"]) == ({"1", "2"} if name in ("wordlight", "litserve") else {"1"})
        assert all(map(in_order, row["captions_a_second"].values()))
        assert in_order(row["ms_alone"])
        assert row["peak_mib"] > 50
    assert figures["rivals"]["wordlight"]["wordlight_times"]["median"] == 1


@pytest.mark.slow
def test_the_programs_for_a_gpu_count_and_time_on_a_cpu(tiny_captioner: Path) -> None:
    sizes = ("--batch", 2, "--rounds", 2, "--precision", "fp32", "bf16")
    rows = figures_of("gpu", "--device", "cpu", "--model", tiny_captioner, *sizes)["rows"]
    assert [(row["strategy"], row["precision"]) for row in rows] == [
        (strategy, precision) for strategy in ("greedy", "beam 3") for precision in ("fp32", "bf16")
    ]
    for row in rows:
        assert all(in_order(row[name]) for name in ("captions_a_second", "ms_a_batch", "encoding", "writing"))
        assert row["launches_a_word"] > 10
    assert rows[0]["same_as_fp32"] == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_says_so_in_one_line() -> None:
    done = run("gpu", OMP_NUM_THREADS="1")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.slow
def test_operators_are_ranked_by_their_own_time(tiny_captioner: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    sizes = ("--batch", 2, "--rounds", 1, "--stage", "write", "--top", 5, "--trace", trace)
    figures = figures_of("operators", "--model", tiny_captioner, *sizes)
    times = [row["ms"] for row in figures["operators"]]
    assert len(times) == 5
    assert times == sorted(times, reverse=True)
    assert sum(row["share"] for row in figures["operators"]) <= 1
    assert json.loads(trace.read_text())["traceEvents"]
