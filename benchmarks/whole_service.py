"""A whole service to be measured: `wordlight serve` in a process of its own, as a user would start it.

In: settings; out: where it listens, how long it took to be ready, and the memory of its processes.
"""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resident import children, command_line, memory_mib

ROOT = Path(__file__).parent.parent
_START_SECONDS = 120.0
_ASK_SECONDS = 0.02
_ROLES = {"api": "web process", "worker": "worker"}


class WholeService:
    """A running service."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, home: Path, ready_seconds: float) -> None:
        """`ready_seconds` passed from the start of the process to the first 200 of /readyz."""
        self.process, self.port, self.home, self.ready_seconds = process, port, home, ready_seconds

    @property
    def redis_url(self) -> str:
        """Where its queue can be reached."""
        return f"unix://{os.path.realpath(self.home / 'valkey.sock')}"

    def processes(self) -> dict[str, int]:
        """The ids of its processes: supervisor, queue server, web process, worker."""
        found = {"supervisor": self.process.pid}
        for child in children(self.process.pid):
            found[_ROLES.get(command_line(child)[-1], "queue server")] = child
        return found

    def memory_mib(self) -> dict[str, float]:
        """Resident memory of each of its processes now; of the decoders, which are children of the web process, all."""
        pids = self.processes()
        decoders = [memory_mib(child)["now"] for child in children(pids["web process"])]
        found = {role: round(memory_mib(pid)["now"], 1) for role, pid in pids.items()}
        return found | {"decoders": round(sum(decoders), 1)}


def clean_environment() -> dict[str, str]:
    """Ours, without settings of Wordlight's; what is started with it finds the packages beside benchmarks/."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORDLIGHT_")}
    kept.pop("REDIS_URL", None)
    return kept | {"PYTHONPATH": str(ROOT)}


@contextmanager
def whole_service(**settings: str) -> Iterator[WholeService]:
    """Start a service that is ready; `settings` are environment variables. Ends all of it in the end.

    Raises RuntimeError, with what it said, when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="wordlight-") as folder, (Path(folder) / "log").open("wb") as log:
        port, home = _free_port(), Path(folder) / "home"
        ours = {"WORDLIGHT_PORT": str(port), "WORDLIGHT_HOME": str(home), "WORDLIGHT_LOG_LEVEL": "WARNING"}
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
                raise RuntimeError(f"the service does not start:\n{Path(log.name).read_text(errors='replace')}")
            yield WholeService(process, port, home, time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait()  # it kills what does not end


def _becomes_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    give_up = time.perf_counter() + _START_SECONDS
    while process.poll() is None and time.perf_counter() < give_up:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return True
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(_ASK_SECONDS)
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
