"""LitServe with our captioner, and its clients. In: JPEG files; out: captions, over HTTP on the loopback.

It starts `litserve_server.py` in processes of their own. It must not know of time.
"""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_START_SECONDS = 120


class LitServe:
    """A running server, and the threads of its clients."""

    def __init__(self, model: Path, engine: str, threads: int, most: int) -> None:
        """Returns when it answers. `most`: pictures in a batch. Raises RuntimeError, with its output."""
        self._port = _free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="wordlight-litserve-")
        arguments = {"model": model.resolve(), "engine": engine, "threads": threads, "most": most, "port": self._port}
        told = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
        self._log = Path(self._folder.name) / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "litserve_server.py"), *told],
                cwd=self._folder.name,
                env=os.environ | {"PYTHONPATH": str(_ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._clients = ThreadPoolExecutor(max_workers=most)
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def caption(self, files: Sequence[bytes], at_once: int) -> None:
        """Every file is a request; `at_once` clients send them. Raises RuntimeError for an answer other than 200."""
        waiting = iter(files)
        taking = threading.Lock()

        def send() -> None:
            # A connection for each call: between two of them, the server would close one that nobody uses.
            connection = http.client.HTTPConnection("127.0.0.1", self._port)
            with closing(connection):
                while True:
                    with taking:
                        file = next(waiting, None)
                    if file is None:
                        return
                    _ask(connection, file)

        for client in [self._clients.submit(send) for _ in range(at_once)]:
            client.result()

    def processes(self) -> list[int]:
        """The server and all its children."""
        found, unseen = [], [self._process.pid]
        while unseen:
            pid = unseen.pop()
            found.append(pid)
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                unseen += map(int, path.read_text().split())
        return found

    def close(self) -> None:
        """End the server and its children. They are in our process group, so that what ends us all ends them, too."""
        self._clients.shutdown()
        ours = self.processes() if self._process.poll() is None else []
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in ours:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._folder.cleanup()

    def _wait_until_ready(self) -> None:
        pause = threading.Event()
        for _ in range(_START_SECONDS * 5):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                if self._process.poll() is not None:
                    break
            finally:
                connection.close()
            pause.wait(0.2)
        said = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"LitServe does not start:\n{said}")


def _ask(connection: http.client.HTTPConnection, file: bytes) -> None:
    body = json.dumps({"image": base64.b64encode(file).decode()})
    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200 or "words" not in json.loads(said):
        raise RuntimeError(f"LitServe answers {answer.status}: {said[:200]!r}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
