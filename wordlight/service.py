"""The whole service on one machine: a supervisor starts each part as a process and restarts it when it dies.

Without REDIS_URL it starts an embedded Valkey first.
"""

import ctypes
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from types import FrameType
from typing import Final

from pydantic import Field

from app.http.server import LISTEN_FD, listening_socket
from app.settings import AppSettings
from wordlight.queue_server import DataInUse, EmbeddedValkey, HomeSettings

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.2
_WORKER_STOP_SECONDS: Final = 60.0  # a worker finishes its batch
_STOP_SECONDS: Final = 10.0
# A process that ran this long started well. When it dies, it is restarted at once.
_HEALTHY_SECONDS: Final = 10.0
_LONGEST_PAUSE_SECONDS: Final = 3.0
_PR_SET_PDEATHSIG: Final = 1  # from <linux/prctl.h>


class ServeSettings(AppSettings, HomeSettings):
    """Settings of `wordlight serve`, besides those that it passes on to its processes."""

    workers: int = Field(
        1, ge=1, description="number of worker processes; they share the cores unless `WORDLIGHT_THREADS` is set"
    )


class CannotServe(Exception):
    """The service cannot start or cannot continue. The message is one line."""


def serve(settings: ServeSettings) -> None:
    """Run until SIGTERM, SIGINT or a closed terminal. Raises CannotServe."""
    try:
        # The supervisor owns the socket. A taken port is reported at once, and while a dead web process restarts,
        # callers wait instead of being refused.
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
        except CannotRestart as error:
            raise CannotServe(str(error)) from error
        finally:
            supervisor.stop()
            if embedded:
                embedded.close()


class CannotRestart(Exception):
    """A process that cannot run with the current settings ended. The message is one line."""


class ManagedProcess:
    """A command that is restarted when it dies. It runs in its own session, so that Ctrl-C reaches the parent only."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        *,
        stop_seconds: float = _STOP_SECONDS,
    ) -> None:
        """`stop_seconds` is how long the process may take to stop before it is killed."""
        self.name, self._stop_seconds = name, stop_seconds
        self._command, self._environment, self._pass_fds = list(command), dict(environment), tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = 0.0
        self._restart_at: float | None = None

    def start(self) -> None:
        """Start the command."""
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            pass_fds=self._pass_fds,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._started = time.monotonic()
        self._restart_at = None

    def restart_if_ended(self) -> None:
        """Restart the command if it has ended, after a pause if it ran only briefly. Call this often.

        Raises CannotRestart if the command exited with EX_CONFIG: a restart would fail in the same way.
        """
        if self._process is None or self._process.poll() is None:
            return
        if self._process.returncode == os.EX_CONFIG:
            raise CannotRestart(f"the {self.name} cannot run with these settings")
        now = time.monotonic()
        if self._restart_at is None:
            lived = now - self._started
            self._pause = 0.0 if lived > _HEALTHY_SECONDS else min(2 * self._pause + 0.5, _LONGEST_PAUSE_SECONDS)
            self._restart_at = now + self._pause
            log.warning("the %s ended (%s); restarting it", self.name, _describe(self._process.returncode))
        if now >= self._restart_at:
            self.start()

    def stop(self) -> None:
        """Wait until the process has stopped, and kill it if it takes too long. Call `ask_to_stop` first."""
        if self._process is None:
            return
        try:
            self._process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            log.warning("the %s did not stop within %.0f s: killing it", self.name, self._stop_seconds)
            self._process.kill()
            self._process.wait()

    def ask_to_stop(self) -> None:
        """Send SIGTERM. A worker that gets a second one drops its batch."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def _processes(
    embedded: EmbeddedValkey | None, environment: dict[str, str], listening: socket.socket, workers: int
) -> list[list[ManagedProcess]]:
    """Return the processes in the order in which they start, grouped by when they stop."""
    wordlight = [sys.executable, "-m", "wordlight"]
    queue = [ManagedProcess("queue server", embedded.command, environment, embedded.inherited)] if embedded else []
    descriptor = listening.fileno()
    web = ManagedProcess("web process", [*wordlight, "api"], environment | {LISTEN_FD: str(descriptor)}, [descriptor])
    if workers > 1:
        share = max(1, len(os.sched_getaffinity(0)) // workers)
        environment = {"WORDLIGHT_THREADS": str(share)} | environment
    names = [f"worker {number}" for number in range(1, workers + 1)] if workers > 1 else ["worker"]
    command = [*wordlight, "worker"]
    return [
        queue,
        [ManagedProcess(name, command, environment, stop_seconds=_WORKER_STOP_SECONDS) for name in names],
        [web],
    ]


class Supervisor:
    """Keeps processes running until a signal stops it."""

    def __init__(self, groups: list[list[ManagedProcess]], host: str, port: int) -> None:
        """Supervise the groups that `_processes` returns."""
        self._groups = groups
        self._processes = list(chain.from_iterable(groups))
        # An address that can be connected to, where `host` stands for all addresses.
        self._host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self._port = port
        self._stopping = False

    def run(self) -> None:
        """Start the processes, print when they are ready and keep them running. Raises CannotRestart."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup sets this
                signal.signal(number, self._on_signal)
        for process in self._processes:
            process.start()
        announced = False
        while not self._stopping:
            for process in self._processes:
                process.restart_if_ended()
            if not announced and self._ready():
                host = f"[{self._host}]" if ":" in self._host else self._host
                print(f"Wordlight is ready at http://{host}:{self._port}", flush=True)
                announced = True
            time.sleep(_POLL_SECONDS)
        print("stopping after the current batch", flush=True)

    def stop(self) -> None:
        """Stop the web process, so that nothing new arrives, then the workers, then the queue server."""
        for group in self._groups[::-1]:
            for process in group:
                process.ask_to_stop()
            for process in group:
                process.stop()

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        if self._stopping:  # a second signal: workers drop their batch, which another worker will run
            for process in self._processes:
                process.ask_to_stop()
        self._stopping = True

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _die_with_parent() -> None:
    """In the child: ask the kernel for SIGTERM when the parent dies, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _describe(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
