"""`wordlight bench`, and the programs that it runs at their smallest: that they run, and say what they promise."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.benchmark import ROOT, figures_of

PROGRAM = '''"""Says what it was told.

And more.
"""
import sys

if __name__ == "__main__":
    print("NAME", sys.argv[1:])
    sys.exit(STATUS)
'''


def bench(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`wordlight bench` of the copy in `checkout`."""
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
    """A copy of the command line, with two benchmarks and a module for them."""
    shutil.copytree(ROOT / "wordlight", tmp_path / "wordlight", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "one.py").write_text(PROGRAM.replace("NAME", "one").replace("STATUS", "3"))
    (folder / "two.py").write_text(PROGRAM.replace("NAME", "two").replace("STATUS", "0"))
    (folder / "module.py").write_text('"""Not a program."""\n')
    return tmp_path


def test_bench_lists_programs_and_runs_them_with_their_options(checkout: Path) -> None:
    listed = bench(checkout)
    assert listed.stdout.splitlines() == ["one  Says what it was told.", "two  Says what it was told."]
    run = bench(checkout, "one", "two", "--rounds", "2", "-h")
    assert run.stdout.splitlines() == ["one ['--rounds', '2', '-h']", "two ['--rounds', '2', '-h']"]
    assert run.returncode == 3
    assert bench(checkout, "two").returncode == 0


def test_bench_says_in_a_line_what_is_not_there(checkout: Path) -> None:
    unknown = bench(checkout, "one", "three")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("wordlight: there is no benchmark 'three'")
    shutil.rmtree(checkout / "benchmarks")
    installed = bench(checkout, "one")
    assert installed.returncode == 1
    assert "benchmarks come with the source" in installed.stderr
    assert len(installed.stderr.splitlines()) == 1


def test_every_program_of_ours_is_listed() -> None:
    names = {line.split()[0] for line in bench(ROOT).stdout.splitlines()}
    assert {"service", "growth", "memory", "start", "kills", "hostile_files"} <= names
    assert not {"figures", "load", "web_process", "healthz_probe"} & names


def percentiles_are_in_order(found: dict[str, Any]) -> bool:
    return bool(0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"] <= found["max_ms"])


@pytest.mark.slow
def test_the_service_beside_the_model(tiny_captioner: Path) -> None:
    sizes = ("--batch-size", "2", "--threads", "1", "--rounds", "2", "--pictures", "8", "--singles", "4")
    found = figures_of("service", "--model", str(tiny_captioner), *sizes, "--seconds", "0.5")
    assert found["benchmark"] == "service"
    assert found["cached"] == 0
    saturation = found["saturation"]
    assert saturation["ratio"]["runs"] == 2
    assert saturation["ratio"]["min"] > 0
    assert set(saturation["direct_stages_ms"]) == {"decode", "prepare", "encode", "write"}
    assert found["idle"]["service"]["requests"] == found["idle"]["direct"]["requests"] == 4
    assert [row["share"] for row in found["load"]] == [0.1, 0.3, 0.5, 0.7, 0.9]
    loop = found["loop"]
    assert loop["idle"]["requests"] > 50
    for latencies in (found["idle"]["service"], found["idle"]["direct"], *found["load"], *loop.values()):
        assert percentiles_are_in_order(latencies)
    assert all(one["met"] in (True, False) for one in found["aims"].values())


@pytest.mark.slow
def test_the_cost_of_a_queue_that_grows() -> None:
    depths = ("--most", "50", "--rounds", "2", "--images", "3")
    workers = ("--workers", "2", "--worker-rounds", "1", "--sleep", "0.2", "--batch-size", "2", "--seconds", "1")
    found = figures_of("growth", *depths, *workers)
    assert [row["waiting"] for row in found["depth"]] == [10, 50]
    assert all(row[f"{name}_ms"] > 0 for row in found["depth"] for name in ("enqueue", "claim", "start", "finish"))
    one, two = found["workers"]
    assert (one["workers"], one["of_linear"], two["workers"]) == (1, 1.0, 2)
    # No worker can be faster than its sleep, nor could two be much slower than one.
    assert one["per_second"] <= 10.2
    assert one["per_second"] < two["per_second"] <= 20.4
    assert found["bytes"]["per_job"] > found["bytes"]["working_image"] > 1000


@pytest.mark.slow
def test_the_memory_of_every_process_over_many_jobs() -> None:
    found = figures_of("memory", "--jobs", "40", "--batch-size", "4")
    assert [row["jobs"] for row in found["rows"]] == list(range(4, 44, 4))
    processes = {"supervisor", "queue server", "web process", "worker", "decoders"}
    assert set(found["growth"]) == processes
    assert all(row[process] > 1 for row in found["rows"] for process in processes)
    assert found["cached"] == 0


@pytest.mark.slow
def test_memory_and_time_to_start(tiny_captioner: Path) -> None:
    found = figures_of("start", "--rounds", "1", "--captions", "4", "--model", str(tiny_captioner))
    assert found["ready_seconds"]["runs"] == found["caption_seconds"]["runs"] == 1
    assert found["ready_seconds"]["median"] > 0 < found["caption_seconds"]["median"]
    for when in ("idle", "after_captions"):
        assert found["memory_mib"][when]["worker"]["median"] > found["memory_mib"][when]["web process"]["median"] > 10
