"""Child processes that are kept running. In: a command; out: a process that is started again when it dies.

It must not know what the processes do.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1  # from <linux/prctl.h>
# A process that lived so long has started well: when it dies, it is started again at once.
_HEALTHY_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 3.0


class HopelessProcess(Exception):
    """A process that cannot run, however often it is started. The message is one line."""


class KeptProcess:
    """A command that runs, in a session of its own: Ctrl-C in the terminal reaches the parent only."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        *,
        end_seconds: float = 10.0,
    ) -> None:
        """`end_seconds` is how long it may take to end when it is asked to."""
        self.name, self._end_seconds = name, end_seconds
        self._command, self._environment, self._pass_fds = list(command), dict(environment), tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = 0.0
        self._start_again_at: float | None = None

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
        self._start_again_at = None

    def keep(self) -> None:
        """Start the command again if it has died; sooner the longer it lived. To be called often.

        Raises HopelessProcess when the command itself says that another try would end in the same way.
        """
        if self._process is None or self._process.poll() is None:
            return
        if self._process.returncode == os.EX_CONFIG:
            raise HopelessProcess(f"the {self.name} cannot run with these settings")
        now = time.monotonic()
        if self._start_again_at is None:
            lived = now - self._started
            self._pause = 0.0 if lived > _HEALTHY_SECONDS else min(2 * self._pause + 0.5, _LONGEST_PAUSE_SECONDS)
            self._start_again_at = now + self._pause
            log.warning("the %s ended (%s); starting it again", self.name, _describe(self._process.returncode))
        if now >= self._start_again_at:
            self.start()

    def end(self) -> None:
        """Wait until the process, which was asked to end, has ended; after its time, make it end."""
        if self._process is None:
            return
        try:
            self._process.wait(self._end_seconds)
        except subprocess.TimeoutExpired:
            log.warning("the %s did not stop within %.0f s: killing it", self.name, self._end_seconds)
            self._process.kill()
            self._process.wait()

    def ask_to_end(self) -> None:
        """Send SIGTERM; a process that was sent one before may take a second as a reason to hurry."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def _die_with_parent() -> None:
    """In the child, before the command: should the parent be killed outright, the child must not stay behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _describe(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
