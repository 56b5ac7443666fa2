"""Write files whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to. At the end, the file written there replaces `path` in one step.

    The new file is on disk before it appears. It keeps the mode and, if possible, the owner of the file that it
    replaces. If `path` is a symbolic link, the target is replaced. After an exception, `path` is as it was.
    """
    path = Path(os.path.realpath(path))
    # A folder of its own, so that programs that write temporary files beside their output leave none behind.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".wordlight-") as folder:
        new = Path(folder) / path.name
        yield new
        with new.open("rb") as file:
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, new)
            with suppress(PermissionError):
                os.chown(new, path.stat().st_uid, path.stat().st_gid)
        new.replace(path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step."""
    with whole_file(path) as new:
        new.write_bytes(content)
