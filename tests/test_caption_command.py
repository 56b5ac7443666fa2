"""`wordlight caption`: photographs without a server, and files that are none."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from support import tiny
from support.command import Service, free_port, start_command
from support.running import running

from wordlight.cli import main
from wordlight.library.iptc import caption_in
from wordlight.library.xmp import description_in


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, which has loaded PyTorch already."""
    monkeypatch.setattr("wordlight.cli.set_up_logs", lambda _: None)

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr("sys.argv", ["wordlight", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three pictures and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    tiny.picture("red", "blue").save(folder / "a.png")
    tiny.picture("blue", "white").save(folder / "c.jpg", quality=95)
    tiny.picture("green", "red").save(folder / "deep" / "d.webp", lossless=True)
    (folder / "b.jpg").write_text("no picture")
    return folder


def paths_in(file: Path) -> list[str]:
    return [json.loads(line)["path"] for line in file.read_text().splitlines()]


def test_bad_files_fail_alone(tiny_captioner: Path, tmp_path: Path, run: Run) -> None:
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
    assert set(caption) == {"text", "logprob", "words", "confidence", "confident"}
    assert set(caption["words"][0]) == {"text", "logprob", "attention", "heatmap", "in_vocabulary", "visual_grounding"}
    assert set(caption["words"][0]["heatmap"]) == {"rows", "cols", "weights"}
    assert caption["words"][0]["attention"] is None


def test_plain_output_is_for_people(tiny_captioner: Path, tmp_path: Path, run: Run) -> None:
    good = tmp_path / "good.png"
    tiny.picture("red", "blue").save(good)
    done = run("caption", good, "--model", tiny_captioner, "--beam", "1")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{good}: ")
    assert set(done.stdout.split(": ")[1].split()) <= tiny.WORDS


def test_what_cannot_be_is_one_line(tiny_captioner: Path, tmp_path: Path, run: Run) -> None:
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


def test_a_folder_becomes_files_of_captions_which_the_same_command_goes_on_with(
    tiny_captioner: Path, photos: Path, tmp_path: Path, run: Run
) -> None:
    lines, table, page = tmp_path / "all.jsonl", tmp_path / "all.csv", tmp_path / "all.html"
    command = ("caption", photos, "-r", "--model", tiny_captioner, "-o", lines, "-o", table, "--html", page)
    done = run(*command, "--attention", "none")
    assert done.returncode == 1
    assert done.stdout == ""
    failure, sums = done.stderr.splitlines()
    assert failure.startswith(f"{photos / 'b.jpg'}: The file is not a picture")
    assert sums.startswith("3 captioned, 1 failed: ")
    found = [str(photos / name) for name in ("a.png", "c.jpg", "deep/d.webp")]
    assert paths_in(lines) == found
    first = json.loads(lines.read_text().splitlines()[0])
    assert first["model"]["name"] == "tiny"
    assert first["image"] == {"width": 96, "height": 96}
    assert {word["attention"] for word in first["captions"][0]["words"]} == {None}
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == found
    assert rows[0]["caption"] == first["captions"][0]["text"]
    assert page.read_text().count("<figure ") == 3

    tiny.picture("white", "green").save(photos / "b.jpg")
    page.unlink()  # so it lacks all of them
    lines.write_bytes(lines.read_bytes()[:-100])
    done = run(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "captioned": 4,
        "failed": 0,
        "known": 0,
        "files": [str(lines), str(table), str(page)],
    }
    assert sorted(paths_in(lines)) == sorted([*found, str(photos / "b.jpg")])
    assert len(table.read_text().splitlines()) == 5
    done = run(*command)
    assert done.returncode == 0
    assert done.stderr.startswith("0 captioned, 4 were there already: ")


@pytest.mark.slow
def test_ctrl_c_loses_nothing_that_is_written(
    tiny_captioner: Path, slow_captioner: Path, tmp_path: Path, run: Run
) -> None:
    folder, output = tmp_path / "photos", tmp_path / "all.jsonl"
    folder.mkdir()
    tiny.picture("red", "blue").save(folder / "000.png")
    for number in range(1, 400):
        (folder / f"{number:03}.png").hardlink_to(folder / "000.png")
    (folder / "020x.png").write_text("told of when the twenty before are written")
    command = start_command(
        *("caption", str(folder), "-r", "-o", str(output), "--beam", "20", "--model", str(slow_captioner))
    )
    command.wait_for_line("020x.png")
    assert command.end(signal.SIGINT) == 130
    assert "Traceback" not in "\n".join(command.lines)
    written = output.read_bytes()
    assert 20 <= len(paths_in(output)) < 400
    done = run("caption", folder, "-r", "-o", output, "--beam", "1", "--model", tiny_captioner)
    assert done.returncode == 1
    assert output.read_bytes().startswith(written)
    assert sorted(paths_in(output)) == [str(folder / f"{number:03}.png") for number in range(400)]


def test_captions_are_put_beside_photographs_and_into_copies(
    tiny_captioner: Path, photos: Path, tmp_path: Path, run: Run
) -> None:
    before = (photos / "c.jpg").read_bytes()
    out = tmp_path / "out"
    done = run(
        *("caption", photos / "a.png", photos / "c.jpg", "--json", "--attention", "none", "--model", tiny_captioner),
        *("--write-xmp", "--write-iptc", "--copies", out),
    )
    assert done.returncode == 0, done.stderr
    assert "a.png: this is no JPEG file" in done.stderr
    texts = [json.loads(line)["captions"][0]["text"] for line in done.stdout.splitlines()]
    assert [description_in((photos / name).read_bytes()) for name in ("a.xmp", "c.xmp")] == texts
    assert caption_in((out / "c.jpg").read_bytes()) == texts[1]
    assert (photos / "c.jpg").read_bytes() == before
    done = run("caption", photos / "c.jpg", "--model", tiny_captioner, "--write-iptc", "--in-place")
    assert done.returncode == 0
    assert caption_in((photos / "c.jpg").read_bytes()) == texts[1]


def test_a_service_captions_as_we_do(
    service: Service, tiny_captioner: Path, photos: Path, tmp_path: Path, run: Run
) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    command = ("caption", photos, "-r", "-o")
    # The engine is the worker's, or the last digits would differ.
    assert run(*command, here, "--model", tiny_captioner, "--engine", "openvino").returncode == 1
    for known in (False, True):
        done = run(*command, there, "--server", service.url, "--at-once", "2")
        assert done.returncode == 1
        assert "b.jpg: The file is not a picture" in done.stderr
        assert ("3 were there already" in done.stderr) is known
        assert "HTTP Request" not in done.stderr
    ours, theirs = ([json.loads(line) for line in file.read_text().splitlines()] for file in (here, there))
    for one, other in zip(ours, theirs, strict=True):
        assert one["path"] == other["path"]
        assert one["image"] == other["image"]
        assert one["model"] == other["model"]
        assert one["captions"][0].keys() == other["captions"][0].keys()
        assert one["captions"][0]["text"] == other["captions"][0]["text"]
        assert one["captions"][0]["words"][0].keys() == other["captions"][0]["words"][0].keys()


def test_a_service_that_is_not_there_or_lets_nobody_in_is_one_line(photos: Path, run: Run) -> None:
    with running(WORDLIGHT_REQUIRE_KEYS="true") as keyed:
        for server, why in (
            ("somewhere", "no address"),
            (f"http://127.0.0.1:{free_port()}", "no answer"),
            (keyed.url, "key"),
        ):
            done = run("caption", photos / "a.png", photos / "c.jpg", "--server", server)
            assert done.returncode == 1
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert why in done.stderr


def test_a_word_has_a_panel_in_the_figure(tiny_captioner: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    figure = tmp_path / "figure.png"
    done = run("explain", photos / "a.png", "-o", figure, "--model", tiny_captioner, "--json")
    assert done.returncode == 0, done.stderr
    known = json.loads(done.stdout)
    assert known["figure"] == str(figure)
    assert all(known["caption"]["words"][0][name]["weights"] for name in ("attention", "heatmap"))
    with Image.open(figure) as image:
        assert image.format == "PNG"
        assert image.info["Description"] == known["caption"]["text"]
        own = image.size
    done = run("explain", photos / "a.png", "-o", figure, "--model", tiny_captioner, "--caption", "red " * 12)
    assert done.stdout.splitlines() == [" ".join(["red"] * 12), str(figure)]
    with Image.open(figure) as image:
        assert image.size != own
    for arguments, why in (
        ((photos / "b.jpg",), "not a picture"),
        ((photos / "a.png", "-o", "figure.jpg"), ".png"),
        ((photos / "a.png", "-o", tmp_path / "missing" / "figure.png"), "No such file"),
        ((photos / "a.png", "--caption", "…"), "--caption"),
    ):
        done = run("explain", *arguments, "--model", tiny_captioner)
        assert done.returncode == 1
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def on_terminal(*arguments: str | Path, **environment: str) -> str:
    """What a terminal shows of a command."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = subprocess.Popen(
        [sys.executable, "-m", "wordlight", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | environment,
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # how Linux says that nobody holds the other end any more
        pass
    os.close(ours)
    process.wait()
    return shown.decode()


def test_colours_and_the_bar_are_for_terminals(tiny_captioner: Path, photos: Path, run: Run) -> None:
    command = ("caption", photos / "a.png", photos / "b.jpg", "--model", tiny_captioner)
    shown = on_terminal(*command)
    assert "\x1b[31m" in shown
    assert "photo/s" in shown or "s/photo" in shown
    assert not re.search(r"\x1b\[\d*m", on_terminal(*command, NO_COLOR="1"))
    done = run(*command)
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("shell", ["bash", "fish", "tcsh", "zsh"])
def test_shells_are_told_all_options(shell: str, run: Run) -> None:
    done = run("completion", shell)
    assert done.returncode == 0, done.stderr
    for word in ("caption", "explain", "write-iptc", "server"):
        assert word in done.stdout


def test_bash_completes(tmp_path: Path, run: Run) -> None:
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash").stdout)
    words = "COMP_WORDS=(wordlight caption --write-); COMP_CWORD=2"
    asked = f"source {script}; {words}; _shtab_wordlight; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--write-xmp", "--write-iptc"]


def test_who_reads_no_further_hears_no_complaint() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "wordlight", "completion", "bash"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_what_is_not_understood_ends_with_2(run: Run) -> None:
    assert run("caption").returncode == 2
    done = run("caption", "a.jpg", "--server", "http://127.0.0.1", "--at-once", "0")
    assert done.returncode == 2
    assert "invalid number value" in done.stderr
    for wrong in (("-o", "a.txt"), ("-o", "missing/a.csv")):
        assert run("caption", "a.jpg", *wrong).returncode == 1
