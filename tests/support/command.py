"""A `wordlight` command in a process of its own, as a user would start it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Command:
    """A `wordlight` command in a process of its own, whose output is read line by line."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout:
            for line in self.process.stdout:
                with self._changed:
                    self.lines.append(line.rstrip())
                    self._changed.notify_all()
        with self._changed:
            self.lines.append("(end of output)")
            self._changed.notify_all()

    def wait_for_line(self, *parts: str, timeout: float = 60) -> str:
        """Return the first line with one of `parts`. Fail with the whole output if none comes."""

        def matches(line: str) -> bool:
            return any(part in line for part in parts)

        def ended_or_matched() -> bool:
            return any(matches(line) or line == "(end of output)" for line in self.lines)

        with self._changed:
            self._changed.wait_for(ended_or_matched, timeout)
        matching = [line for line in self.lines if matches(line)]
        assert matching, f"none of {parts} in the output:\n" + "\n".join(self.lines)
        return matching[0]

    def end(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(timeout)
        self._reader.join()
        return status


@dataclass(frozen=True)
class Service:
    """A running Wordlight."""

    url: str
    command: Command


def clean_environment() -> dict[str, str]:
    """Return the environment of the tests without settings of Wordlight."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("WORDLIGHT_") and name != "REDIS_URL"
    }


def start_command(*arguments: str, prefix: Sequence[str] = (), **environment: str) -> Command:
    """Start `wordlight` with these arguments. Of its settings, it gets `environment` only.

    `prefix` goes before the command.
    """
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "wordlight", *arguments],
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Command(process)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
