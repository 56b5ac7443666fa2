"""`wordlight bench`, and a short run of every benchmark with plausible figures."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from support import benchmark
from support.benchmark import ROOT
from support.command import free_port

PROGRAM = '''"""Print the arguments.

And more.
"""
import sys

if __name__ == "__main__":
    print("NAME", sys.argv[1:])
    sys.exit(STATUS)
'''
needs_rivals = pytest.mark.skipif(
    find_spec("transformers") is None or find_spec("litserve") is None,
    reason="needs transformers and litserve, which only this benchmark uses",
)


# `wordlight bench`


def bench(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `wordlight bench` of the copy in `checkout`."""
    return subprocess.run(
        [sys.executable, "-m", "wordlight", "bench", *words],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": f"{checkout}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the command line, with two benchmarks and a module that they share."""
    shutil.copytree(ROOT / "wordlight", tmp_path / "wordlight", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "one.py").write_text(PROGRAM.replace("NAME", "one").replace("STATUS", "3"))
    (folder / "two.py").write_text(PROGRAM.replace("NAME", "two").replace("STATUS", "0"))
    (folder / "module.py").write_text('"""Not a program."""\n')
    return tmp_path


def test_bench_lists_programs_and_runs_them_with_their_options(checkout: Path) -> None:
    listed = bench(checkout)
    assert listed.stdout.splitlines() == ["one  Print the arguments.", "two  Print the arguments."]
    run = bench(checkout, "one", "two", "--rounds", "2", "-h")
    assert run.stdout.splitlines() == ["one ['--rounds', '2', '-h']", "two ['--rounds', '2', '-h']"]
    assert run.returncode == 3
    assert bench(checkout, "two").returncode == 0


def test_bench_fails_with_one_line_without_the_benchmark(checkout: Path) -> None:
    unknown = bench(checkout, "one", "three")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("wordlight: there is no benchmark 'three'")
    shutil.rmtree(checkout / "benchmarks")
    installed = bench(checkout, "one")
    assert installed.returncode == 1
    assert "benchmarks come with the source" in installed.stderr
    assert len(installed.stderr.splitlines()) == 1


def test_bench_lists_our_programs() -> None:
    names = {line.split()[0] for line in bench(ROOT).stdout.splitlines()}
    assert names >= {"gpu", "growth", "kills", "memory", "rivals", "service", "stages", "start"}
    assert not names & {"engines", "figures", "load", "whole_service"}


# The programs


def figures_of(name: str, *arguments: object) -> dict[str, Any]:
    """Return the figures of a benchmark that runs on one thread."""
    figures = benchmark.figures_of(f"benchmarks/{name}.py", *arguments, OMP_NUM_THREADS="1")
    assert figures["benchmark"] == name
    return figures


def in_order(figures: dict[str, float]) -> bool:
    """Whether minimum, quartiles, median and maximum are positive and in order."""
    values = [figures[name] for name in ("min", "low", "median", "high", "max")]
    return values[0] > 0 and values == sorted(values)


def percentiles_are_in_order(found: dict[str, Any]) -> bool:
    return bool(0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"] <= found["max_ms"])


@pytest.mark.slow
def test_service_beside_the_model(tiny_captioner: Path) -> None:
    sizes = ("--batch-size", 2, "--threads", 1, "--rounds", 2, "--pictures", 8, "--singles", 4, "--probes", 7)
    found = figures_of("service", "--model", tiny_captioner, *sizes, "--seconds", 0.5)
    assert found["cached"] == 0
    saturation = found["saturation"]
    assert saturation["ratio"]["runs"] == 2
    assert in_order(saturation["ratio"])
    assert set(saturation["direct_stages_ms"]) == {"decode", "prepare", "encode", "write"}
    assert found["idle"]["service"]["requests"] == found["idle"]["direct"]["requests"] == 4
    assert [row["share"] for row in found["load"]] == [0.1, 0.3, 0.5, 0.7, 0.9]
    loop = found["loop"]
    assert loop["idle"]["requests"] == 7
    for latencies in (found["idle"]["service"], found["idle"]["direct"], *found["load"], *loop.values()):
        assert percentiles_are_in_order(latencies)


@pytest.mark.slow
def test_kills_lose_no_job(tiny_captioner: Path) -> None:
    sizes = ("--kills", 2, "--workers", 2, "--interval", 0.1)
    found = figures_of("kills", "--model", tiny_captioner, *sizes, "--port", free_port())
    assert found["kills"] == 2
    assert (found["lost"], found["ended_twice"], found["left_over"]) == (0, 0, 0)
    assert found["jobs"] > 0


@pytest.mark.slow
def test_growth_of_the_queue() -> None:
    depths = ("--most", 50, "--rounds", 2, "--images", 3)
    workers = ("--workers", 2, "--worker-rounds", 1, "--sleep", 0.2, "--batch-size", 2, "--seconds", 1)
    found = figures_of("growth", *depths, *workers)
    assert [row["waiting"] for row in found["depth"]] == [10, 50]
    assert all(row[f"{name}_ms"] > 0 for row in found["depth"] for name in ("enqueue", "claim", "start", "finish"))
    one, two = found["workers"]
    assert (one["workers"], one["of_linear"], two["workers"]) == (1, 1.0, 2)
    assert one["per_second"] > 0 < two["per_second"]
    assert found["bytes"]["per_job"] > found["bytes"]["working_image"] > 1000


@pytest.mark.slow
def test_memory_of_every_process_over_many_jobs() -> None:
    found = figures_of("memory", "--jobs", 40, "--batch-size", 4)
    assert [row["jobs"] for row in found["rows"]] == list(range(4, 44, 4))
    processes = {"supervisor", "queue server", "web process", "worker", "decoders"}
    assert set(found["growth"]) == processes
    assert all(row[process] > 1 for row in found["rows"] for process in processes)
    assert found["cached"] == 0


@pytest.mark.slow
def test_time_and_memory_of_a_start(tiny_captioner: Path) -> None:
    found = figures_of("start", "--rounds", 1, "--captions", 4, "--model", tiny_captioner)
    assert found["ready_seconds"]["runs"] == found["caption_seconds"]["runs"] == 1
    assert found["ready_seconds"]["median"] > 0 < found["caption_seconds"]["median"]
    for when in ("idle", "after_captions"):
        assert found["memory_mib"][when]["worker"]["median"] > found["memory_mib"][when]["web process"]["median"] > 10


@pytest.mark.slow
def test_stages_and_agreement_of_engines(tiny_captioner: Path, tiny_data: Path) -> None:
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


@needs_rivals
@pytest.mark.slow
def test_rivals_caption_the_same_pictures(tiny_captioner: Path, tiny_data: Path) -> None:
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
def test_gpu_runs_on_a_cpu(tiny_captioner: Path) -> None:
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
def test_gpu_fails_with_one_line_without_a_gpu() -> None:
    done = benchmark.run("benchmarks/gpu.py", OMP_NUM_THREADS="1")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
