"""`wordlight bulk` with a real Ray on this machine, real pictures, and files that are not pictures."""

import json
import signal
import subprocess
import sys
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from support import tiny
from support.command import start_command
from support.queue_servers import wait_until

from wordlight.bulk.parts import Parts
from wordlight.bulk.storage import Storage, StorageUnusable
from wordlight.library.photographs import photographs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures at several depths, two other files with the suffix of a picture, and a text file."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, (top, bottom) in enumerate(permutations(tiny.COLOURS, 2)):
        path = folder / ("deep/er" if number % 2 else ".") / f"{top}-{bottom} ä.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny.picture(top, bottom).save(path)
    (folder / "text.jpg").write_text("hello")
    (folder / "deep" / "huge.JPG").write_bytes(bytes(20 * 2**20 + 1))
    (folder / "notes.txt").write_text("not a picture, so not a failure")
    return folder


def bulk(source: Path | str, output: Path | str, captioner: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wordlight", "bulk", str(source), str(output), "--model", str(captioner), *options],
        capture_output=True,
        text=True,
        check=False,
    )


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(output.glob("part-*.jsonl")) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_caption_a_folder_and_later_runs_resume(folder: Path, tiny_captioner: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions"
    options = ("--workers", "2", "--part", "3", "--batch", "2", "--engine", "pytorch")
    done = bulk(folder, output, tiny_captioner, *options)
    assert done.returncode == 1, done.stderr  # two files failed
    assert done.stdout.splitlines()[0] == "14 pictures, 0 of them done before"
    assert done.stdout.splitlines()[-1].startswith("captioned 12 pictures; 2 failed")
    rows = rows_of(output)
    names = Counter(row["path"] for row in rows)
    assert set(names.values()) == {1}
    assert len(names) == 14
    errors = {row["path"]: row["error"] for row in rows if "error" in row}
    assert set(errors) == {"text.jpg", "deep/huge.JPG"}
    assert errors["deep/huge.JPG"] == "larger than 20 MiB"
    for row in rows:
        if "error" not in row:
            (caption,) = row["captions"]
            assert set(caption["text"].split()) <= tiny.WORDS
            top, bottom = Path(row["path"]).name.split(" ")[0].split("-")
            assert top in caption["text"]
            assert bottom in caption["text"]
    parts = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert len(parts) == 5
    assert all(name.startswith("part-") for name in parts)  # no partial files

    # When a part is lost, the next run writes it again and touches nothing else.
    lost = sorted(parts)[0]
    again = [json.loads(line)["path"] for line in (output / lost).read_text().splitlines()]
    (output / lost).unlink()
    done = bulk(folder, output, tiny_captioner, *options)
    assert done.stdout.splitlines()[0] == f"14 pictures, {14 - len(again)} of them done before"
    assert {path.name: path.stat().st_mtime_ns for path in output.iterdir() if path.name != lost} == {
        name: time for name, time in parts.items() if name != lost
    }
    assert [json.loads(line)["path"] for line in (output / lost).read_text().splitlines()] == again
    done = bulk(folder, output, tiny_captioner, *options)
    assert (done.returncode, done.stdout) == (0, "14 pictures, 14 of them done before\n")
    done = bulk(folder, output, tiny_captioner, *options, "--json")
    assert json.loads(done.stdout) == {"pictures": 14, "done_before": 14, "captioned": 0, "failed": 0}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_parquet_from_a_url_with_attention(folder: Path, tiny_captioner: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions"
    done = bulk(
        *(f"file://{folder}/deep", f"file://{output}", tiny_captioner),
        *("--format", "parquet", "--attention", "both", "--json"),
    )
    assert done.returncode == 1, done.stderr
    totals = json.loads(done.stdout)
    assert (totals["pictures"], totals["failed"]) == (7, 7 - totals["captioned"])
    (path,) = output.iterdir()
    rows = parquet.read_table(path).to_pylist()
    assert len(rows) == 7
    for row in rows:
        assert (row["captions"] is None) == (row["error"] is not None)
        for caption in row["captions"] or []:
            assert caption["words"]
            for word in caption["words"]:
                for grid in (word["attention"], word["heatmap"]):
                    assert len(grid["weights"]) == grid["rows"] * grid["cols"]
                    assert sum(grid["weights"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_resumes(folder: Path, slow_captioner: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions"
    options = ("--part", "2", "--batch", "2", "--engine", "pytorch", "--workers", "1")
    command = start_command("bulk", str(folder), str(output), "--model", str(slow_captioner), *options)
    wait_until(lambda: bool(list(output.glob("part-*"))) or command.process.poll() is not None)
    command.end(signal.SIGKILL)
    done = bulk(folder, output, slow_captioner, *options)
    assert "0 of them done before" not in done.stdout
    assert sorted(row["path"] for row in rows_of(output)) == [file.path for file in Storage.at(str(folder)).pictures()]


def test_failures_are_retried_on_request_only(tmp_path: Path) -> None:
    for form in ("jsonl", "parquet"):
        parts = Parts(Storage.at(str(tmp_path / form)), form)  # type: ignore[arg-type]
        assert parts.done(failed_too=True) == set()
        caption = {"text": "a dog", "logprob": -1.0, "confidence": None, "confident": None}
        parts.write([{"path": "a", "captions": [caption], "model": "v"}, {"path": "b", "error": "no"}])
        assert parts.done(failed_too=True) == {"a", "b"}
        assert parts.done(failed_too=False) == {"a"}


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        storage.write("taken", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_storage_of_fsspec() -> None:
    storage = Storage.at("memory://a-bucket/folder")
    storage.write("part-1.jsonl", b'{"path": "x"}\n')
    storage.write("deep/picture.JPG", b"12345")
    assert [(file.path, file.size) for file in storage.pictures()] == [("deep/picture.JPG", 5)]
    assert storage.read("deep/picture.JPG", 3) == b"123"
    assert Parts(storage, "jsonl").done(failed_too=True) == {"x"}


def test_the_suffixes_of_pictures_are_those_of_other_commands(tmp_path: Path) -> None:
    names = ["a.jpe", "b.JFIF", "c.jpeg", "d.mpo", "e.txt", "f"]
    for name in names:
        (tmp_path / name).touch()
    assert [file.path for file in Storage.at(str(tmp_path)).pictures()] == names[:4]
    assert [path.name for path in photographs([tmp_path], recursive=True)] == names[:4]


def test_missing_storage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match="cannot read"):
        Storage.at(str(tmp_path / "nowhere")).pictures()
    with pytest.raises(StorageUnusable, match="cannot reach"):
        Storage.at("nonsense://bucket")
    done = bulk(tmp_path / "nowhere", tmp_path, tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
