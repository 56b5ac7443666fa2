"""`wordlight serve`: the whole service on one machine, each part in a process of its own, kept running.

With no REDIS_URL, an embedded Valkey is started first: the same topology as in production, by one command.
"""

import http.client
import os
import signal
import socket
import sys
import time
from itertools import chain
from types import FrameType

from pydantic import Field

from app.http.server import LISTEN_FD, listening_socket
from app.settings import AppSettings
from wordlight.embedded import DataInUse, EmbeddedValkey
from wordlight.home import HomeSettings
from wordlight.processes import HopelessProcess, KeptProcess

_POLL_SECONDS = 0.2
_WORKER_END_SECONDS = 60.0  # it finishes its batch


class ServeSettings(AppSettings, HomeSettings):
    """What `serve` itself must know, besides what it passes on in the environment."""

    workers: int = Field(
        1, ge=1, description="worker processes; where `WORDLIGHT_THREADS` is not set, they share the cores"
    )


class CannotServe(Exception):
    """The service cannot be started, or cannot go on. The message is one line that says why."""


def serve(settings: ServeSettings) -> None:
    """Run until SIGTERM, SIGINT or a closed terminal. Raises CannotServe."""
    try:
        # Bound here, and handed to the web process: a taken port is known at once, and callers only wait a little
        # while a web process that died is started again.
        listening = listening_socket(settings)
    except OSError as error:
        raise CannotServe(f"{error} (WORDLIGHT_PORT chooses another port)") from error
    with listening:
        embedded = None
        environment = dict(os.environ)
        if "redis_url" not in settings.model_fields_set:
            try:
                embedded = EmbeddedValkey(settings.home)
            except (DataInUse, OSError) as error:
                raise CannotServe(str(error)) from error
            environment["REDIS_URL"] = embedded.url
        groups = _processes(embedded, environment, listening, settings.workers)
        supervisor = Supervisor(groups, settings.host, settings.port)
        try:
            supervisor.run()
        except HopelessProcess as error:
            raise CannotServe(str(error)) from error
        finally:
            supervisor.stop()
            if embedded:
                embedded.close()


def _processes(
    embedded: EmbeddedValkey | None, environment: dict[str, str], listening: socket.socket, workers: int
) -> list[list[KeptProcess]]:
    """In the order in which they are started; those that are told to end at the same time are together."""
    wordlight = [sys.executable, "-m", "wordlight"]
    queue = [KeptProcess("queue server", embedded.command, environment, embedded.inherited)] if embedded else []
    descriptor = listening.fileno()
    web = KeptProcess("web process", [*wordlight, "api"], environment | {LISTEN_FD: str(descriptor)}, [descriptor])
    if workers > 1:
        share = max(1, len(os.sched_getaffinity(0)) // workers)
        environment = {"WORDLIGHT_THREADS": str(share)} | environment
    names = [f"worker {number}" for number in range(1, workers + 1)] if workers > 1 else ["worker"]
    command = [*wordlight, "worker"]
    return [
        queue,
        [KeptProcess(name, command, environment, end_seconds=_WORKER_END_SECONDS) for name in names],
        [web],
    ]


class Supervisor:
    """Keeps processes running until it is told to stop."""

    def __init__(self, groups: list[list[KeptProcess]], host: str, port: int) -> None:
        """`groups` are as `_processes` gives them."""
        self._groups = groups
        self._processes = list(chain.from_iterable(groups))
        # Where to ask, and what to print: an address that can be reached, where `host` means all there are.
        self._host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self._port = port
        self._told_to_stop = False

    def run(self) -> None:
        """Start the processes and keep them running; say once when they are ready. Raises HopelessProcess."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, self._on_signal)
        for process in self._processes:
            process.start()
        announced = False
        while not self._told_to_stop:
            for process in self._processes:
                process.keep()
            if not announced and self._ready():
                host = f"[{self._host}]" if ":" in self._host else self._host
                print(f"Wordlight is ready at http://{host}:{self._port}", flush=True)
                announced = True
            time.sleep(_POLL_SECONDS)
        print("stopping: the batch at hand is finished first", flush=True)

    def stop(self) -> None:
        """Stop the web process, so that nothing new comes; then the workers; the queue last."""
        for group in self._groups[::-1]:
            for process in group:
                process.ask_to_end()
            for process in group:
                process.end()

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        if self._told_to_stop:  # asked again: whoever is still busy should leave things as they are
            for process in self._processes:
                process.ask_to_end()
        self._told_to_stop = True

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
