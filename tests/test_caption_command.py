"""`wordlight caption`: photographs without a server, and files that are none."""

import json
import subprocess
import sys
from pathlib import Path

import tiny


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wordlight", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_bad_files_fail_alone(tiny_captioner: Path, tmp_path: Path) -> None:
    good, text, missing = tmp_path / "good.png", tmp_path / "text.jpg", tmp_path / "missing.jpg"
    tiny.picture("red", "blue").save(good)
    text.write_text("hello")
    done = run("caption", text, good, missing, tmp_path, "--json", "--model", tiny_captioner)
    assert done.returncode == 1
    first, second, third, fourth = (json.loads(line) for line in done.stdout.splitlines())
    assert set(first) == set(third) == set(fourth) == {"path", "error"}
    assert first["path"] == str(text)
    assert "No such file" in third["error"]
    assert second["path"] == str(good)
    (caption,) = second["captions"]
    assert set(caption) == {"text", "logprob", "words", "confidence", "sure"}
    assert set(caption["words"][0]) == {"text", "logprob", "attention", "known", "looked"}
    assert set(caption["words"][0]["attention"]) == {"rows", "cols", "weights"}


def test_plain_output_is_for_people(tiny_captioner: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    tiny.picture("red", "blue").save(good)
    done = run("caption", good, "--model", tiny_captioner, "--beam", "1")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{good}: ")
    assert set(done.stdout.split(": ")[1].split()) <= tiny.WORDS


def test_what_cannot_be_is_one_line(tiny_captioner: Path, tmp_path: Path) -> None:
    for arguments in (
        ("caption", "x.jpg", "--model", tmp_path),
        ("caption", "x.jpg", "--model", tiny_captioner, "--device", "abacus"),
        ("caption", "x.jpg", "--model", tiny_captioner, "--beam", "0"),
        ("train", "nonsense", "--data", tmp_path),
        ("train", "frozen", "--data", tmp_path, "--run", tmp_path / "run"),
        ("evaluate", "--data", tmp_path, "--model", tiny_captioner),
    ):
        done = run(*arguments)
        assert done.returncode == 1, arguments
        assert done.stderr.startswith("wordlight: "), done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
