"""A whole service to measure: `wordlight serve` as a child process, as a user starts it."""

import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
_START_SECONDS = 120.0
_POLL_SECONDS = 0.02
_ROLES = {"api": "web process", "worker": "worker"}


class WholeService:
    """A running service."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, ready_seconds: float) -> None:
        """`ready_seconds`: time from the start of the process to the first 200 of /readyz."""
        self.process, self.port, self.ready_seconds = process, port, ready_seconds

    def processes(self) -> dict[str, int]:
        """Process ids by role: supervisor, queue server, web process, worker."""
        found = {"supervisor": self.process.pid}
        for child in children(self.process.pid):
            last_argument = Path(f"/proc/{child}/cmdline").read_text().rstrip("\0").rpartition("\0")[2]
            found[_ROLES.get(last_argument, "queue server")] = child
        return found

    def memory_mib(self) -> dict[str, float]:
        """Resident memory by role. The decoders, children of the web process, are added up."""
        pids = self.processes()
        decoders = sum(map(_resident_mib, children(pids["web process"])))
        return {role: round(_resident_mib(pid), 1) for role, pid in pids.items()} | {"decoders": round(decoders, 1)}


def clean_environment() -> dict[str, str]:
    """Return this process's environment without Wordlight's settings. PYTHONPATH is this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORDLIGHT_")}
    kept.pop("REDIS_URL", None)
    return kept | {"PYTHONPATH": str(ROOT)}


@contextmanager
def whole_service(**settings: str) -> Iterator[WholeService]:
    """Start a service, wait until it is ready, and stop it afterwards.

    `settings` are environment variables. Raises RuntimeError, with the log, if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="wordlight-") as folder, (Path(folder) / "log").open("wb") as log:
        port = free_port()
        ours = {"WORDLIGHT_PORT": str(port), "WORDLIGHT_HOME": f"{folder}/home", "WORDLIGHT_LOG_LEVEL": "WARNING"}
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "wordlight", "serve"],
            cwd=ROOT,
            env=clean_environment() | ours | settings,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _becomes_ready(process, port):
                raise RuntimeError(f"the service did not start:\n{Path(log.name).read_text(errors='replace')}")
            yield WholeService(process, port, time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait()  # it kills children that do not end


def children(pid: int) -> set[int]:
    """Return the ids of the process's children."""
    tasks = Path(f"/proc/{pid}/task")
    return {int(child) for path in tasks.glob("*/children") for child in path.read_text().split()}


def _resident_mib(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def _becomes_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    give_up = time.perf_counter() + _START_SECONDS
    while process.poll() is None and time.perf_counter() < give_up:
        if responds(port, "/readyz"):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def responds(port: int, path: str) -> bool:
    """Whether a local server responds to GET `path` with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Return a local port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
