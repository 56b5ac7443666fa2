"""`wordlight serve`: the whole service on one machine, each part in a process of its own, kept running.

With no REDIS_URL, an embedded Valkey is started first: the same topology as in production, by one command.
"""

import os
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

from app.main import listen
from app.settings import AppSettings
from wordlight.embedded import DataInUse, EmbeddedValkey
from wordlight.processes import KeptProcess

_SOCKET_VARIABLE = "WORDLIGHT_LISTEN_FD"
_POLL_SECONDS = 0.2
# The web process first, so that nothing new comes; then the worker, which finishes its batch; the queue last.
_STOP_SECONDS = {"web process": 10.0, "worker": 60.0, "queue server": 10.0}


class CannotServe(Exception):
    """The service cannot be started. The message is one line that says why."""


def serve(settings: AppSettings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. Raises CannotServe."""
    try:
        # Bound here, and handed to the web process: a taken port is known at once, and callers only wait a little
        # while a web process that died is started again.
        listening = listen(settings.host, settings.port)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        address = f"{settings.host}:{settings.port}"
        raise CannotServe(f"cannot listen on {address}: {why} (WORDLIGHT_PORT chooses another port)") from error
    with listening:
        embedded = None
        environment = dict(os.environ)
        if not os.environ.get("REDIS_URL"):
            try:
                embedded = EmbeddedValkey(Path(os.environ.get("WORDLIGHT_HOME") or ".wordlight"))
            except (DataInUse, OSError) as error:
                raise CannotServe(str(error)) from error
            environment["REDIS_URL"] = embedded.url
        processes = _processes(embedded, environment, listening)
        try:
            _run(processes, f"http://{_display(settings.host)}:{settings.port}")
        finally:
            for process in processes[::-1]:
                process.stop(_STOP_SECONDS[process.name])
            if embedded:
                embedded.close()
    return 0


def inherited_socket() -> socket.socket | None:
    """The listening socket that `serve` handed to this process, if it did."""
    number = os.environ.get(_SOCKET_VARIABLE)
    return socket.socket(fileno=int(number)) if number else None


def _processes(
    embedded: EmbeddedValkey | None, environment: dict[str, str], listening: socket.socket
) -> list[KeptProcess]:
    """In the order in which they are started."""
    wordlight = [sys.executable, "-m", "wordlight"]
    web = KeptProcess(
        "web process",
        [*wordlight, "api"],
        environment | {_SOCKET_VARIABLE: str(listening.fileno())},
        pass_fds=[listening.fileno()],
    )
    worker = KeptProcess("worker", [*wordlight, "worker"], environment)
    queue = [KeptProcess("queue server", embedded.command, environment)] if embedded else []
    return [*queue, worker, web]


def _run(processes: list[KeptProcess], url: str) -> None:
    """Keep the processes running until told to stop; say once when they are ready."""
    stop = threading.Event()

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    for process in processes:
        process.start()
    announced = False
    while not stop.wait(_POLL_SECONDS):
        for process in processes:
            process.keep()
        if not announced and _ready(url):
            print(f"Wordlight is ready at {url}", flush=True)
            announced = True
    print("stopping", flush=True)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _display(host: str) -> str:
    """A host as it stands in a URL that can be opened here."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
