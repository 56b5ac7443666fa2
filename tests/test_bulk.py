"""`wordlight bulk`: a real Ray on this machine, real pictures, files that are none, and one life after another."""

import json
import signal
import subprocess
import sys
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import tiny
from command import start_command
from pyarrow import parquet
from support.queue_servers import wait_until

from wordlight.bulk.parts import Parts
from wordlight.bulk.place import NoSuchPlace, Place
from wordlight.library.photographs import photographs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures at several depths, two files that are none though they bear such names, and one that does not."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, (top, bottom) in enumerate(permutations(tiny.COLOURS, 2)):
        path = folder / ("deep/er" if number % 2 else ".") / f"{top}-{bottom} ä.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny.picture(top, bottom).save(path)
    (folder / "text.jpg").write_text("hello")
    (folder / "deep" / "huge.JPG").write_bytes(bytes(20 * 2**20 + 1))
    (folder / "notes.txt").write_text("no picture, and no failure")
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
def test_two_workers_caption_a_folder_and_go_on_where_they_ended(
    folder: Path, tiny_captioner: Path, tmp_path: Path
) -> None:
    output = tmp_path / "captions"
    options = ("--workers", "2", "--part", "3", "--batch", "2", "--engine", "pytorch")
    done = bulk(folder, output, tiny_captioner, *options)
    assert done.returncode == 1, done.stderr  # two files could not be
    assert done.stdout.splitlines()[0] == "14 pictures, 0 of them done before"
    assert done.stdout.splitlines()[-1].startswith("captioned 12 pictures; 2 could not be")
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
    assert all(name.startswith("part-") for name in parts)  # nothing that is half done

    # A part is lost: its pictures are done again, in its place, and nothing else is touched.
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
        f"file://{folder}/deep", f"file://{output}", tiny_captioner, "--format", "parquet", "--attention", "--json"
    )
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert (told["pictures"], told["failed"]) == (7, 7 - told["captioned"])
    (path,) = output.iterdir()
    rows = parquet.read_table(path).to_pylist()
    assert len(rows) == 7
    for row in rows:
        assert (row["captions"] is None) == (row["error"] is not None)
        for caption in row["captions"] or []:
            assert caption["words"]
            for word in caption["words"]:
                grid = word["attention"]
                assert len(grid["weights"]) == grid["rows"] * grid["cols"]
                assert sum(grid["weights"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_in_the_middle_it_goes_on(folder: Path, slow_captioner: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions"
    options = ("--part", "2", "--batch", "2", "--engine", "pytorch", "--workers", "1")
    command = start_command("bulk", str(folder), str(output), "--model", str(slow_captioner), *options)
    wait_until(lambda: bool(list(output.glob("part-*"))) or command.process.poll() is not None)
    command.end(signal.SIGKILL)
    done = bulk(folder, output, slow_captioner, *options)
    assert "0 of them done before" not in done.stdout
    assert sorted(row["path"] for row in rows_of(output)) == [found.path for found in Place.at(str(folder)).pictures()]


def test_what_failed_is_tried_again_only_when_told(tmp_path: Path) -> None:
    for form in ("jsonl", "parquet"):
        parts = Parts(Place.at(str(tmp_path / form)), form)  # type: ignore[arg-type]
        assert parts.done(failed_too=True) == set()
        caption = {"text": "a dog", "logprob": -1.0, "confidence": None, "sure": None}
        parts.write([{"path": "a", "captions": [caption], "model": "v"}, {"path": "b", "error": "no"}])
        assert parts.done(failed_too=True) == {"a", "b"}
        assert parts.done(failed_too=False) == {"a"}


def test_a_part_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    place = Place.at(str(tmp_path))
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        place.write("taken", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_places_that_fsspec_knows_alone() -> None:
    place = Place.at("memory://a-bucket/folder")
    place.write("part-1.jsonl", b'{"path": "x"}\n')
    place.write("deep/picture.JPG", b"12345")
    assert [(found.path, found.size) for found in place.pictures()] == [("deep/picture.JPG", 5)]
    assert place.read("deep/picture.JPG", 3) == b"123"
    assert Parts(place, "jsonl").done(failed_too=True) == {"x"}


def test_what_a_picture_is_by_its_name_is_the_same_as_for_other_commands(tmp_path: Path) -> None:
    names = ["a.jpe", "b.JFIF", "c.jpeg", "d.mpo", "e.txt", "f"]
    for name in names:
        (tmp_path / name).touch()
    assert [found.path for found in Place.at(str(tmp_path)).pictures()] == names[:4]
    assert [path.name for path in photographs([tmp_path], recursive=True)] == names[:4]


def test_places_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoSuchPlace, match="cannot look into"):
        Place.at(str(tmp_path / "nowhere")).pictures()
    with pytest.raises(NoSuchPlace, match="cannot reach"):
        Place.at("nonsense://bucket")
    done = bulk(tmp_path / "nowhere", tmp_path, tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
