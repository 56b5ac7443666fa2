"""Run `wordlight` commands in the test's process, which has loaded PyTorch already."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from wordlight.cli import main


@dataclass(frozen=True)
class Done:
    """The exit status and the output of a command."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs `wordlight` with the given arguments."""
    monkeypatch.setattr("wordlight.cli.set_up_logs", lambda _: None)

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr("sys.argv", ["wordlight", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return run
