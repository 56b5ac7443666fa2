"""Captions beside photographs and in them: sidecars in XMP, and JPEG files with a caption in IPTC's form.

In: photographs with their captions; out: files that are replaced whole or not at all. A description that somebody else
wrote stays, unless it is asked to be replaced.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from wordlight.library.iptc import caption_in, with_caption
from wordlight.library.outcome import Captioned
from wordlight.library.photographs import identity
from wordlight.library.report import NotWritten
from wordlight.library.xmp import description_in, with_description

_KEPT = "has another description, which stays (--overwrite replaces it)"


class Sidecars:
    """A file NAME.xmp beside each photograph; NAME.jpg.xmp where there is one, or several photographs of the NAME."""

    def __init__(self, photographs: Iterable[Path], *, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._of_name = Counter(path.with_suffix("") for path in photographs)

    def write(self, captioned: Captioned) -> str | None:
        """As Writer has it."""
        sidecar, text = self._beside(captioned.path), captioned.best.text
        try:
            before = sidecar.read_bytes() if sidecar.exists() else None
            if before and not self._overwrite and description_in(before) not in ("", text):
                return f"{sidecar.name} {_KEPT}"
            after = with_description(before or None, text)
        except ValueError as error:
            raise NotWritten(f"{sidecar}: {error}") from error
        if after != before:
            replace_file(sidecar, after)
        return None

    def _beside(self, path: Path) -> Path:
        longer = path.with_name(path.name + ".xmp")
        shared = self._of_name[path.with_suffix("")] > 1
        return longer if shared or longer.exists() else path.with_suffix(".xmp")


class Captions:
    """The caption in a JPEG file: in a copy of it, or in itself."""

    def __init__(self, photographs: Iterable[Path], copies: Path | None, *, overwrite: bool) -> None:
        """`copies` is the folder of copies, in which photographs lie to each other as they do; None: no copies."""
        self._copies, self._overwrite = copies, overwrite
        self._home = os.path.commonpath([Path(identity(path)).parent for path in photographs]) if copies else ""

    def write(self, captioned: Captioned) -> str | None:
        """As Writer has it."""
        before, text = captioned.path.read_bytes(), captioned.best.text
        if not before.startswith(b"\xff\xd8\xff"):
            return "this is no JPEG file: it gets no IPTC caption"
        note = None
        try:
            if not self._overwrite and caption_in(before) not in ("", text):
                after, note = before, f"it {_KEPT}"
            else:
                after = with_caption(before, text)
        except ValueError as error:
            raise NotWritten(str(error)) from error
        if self._copies:
            target = self._copies / os.path.relpath(identity(captioned.path), self._home)
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(target, after)
        elif after != before:
            replace_file(captioned.path, after)
        return note


def replace_file(path: Path, content: bytes) -> None:
    """Have the file hold `content`: whole, or as it was. One that is there keeps its mode. Raises OSError."""
    path = Path(os.path.realpath(path))  # what a link leads to is replaced, not the link
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".wordlight-", delete=False) as file:
        new = Path(file.name)
    try:
        new.write_bytes(content)
        if path.exists():
            shutil.copymode(path, new)
        else:
            new.chmod(0o666 & ~_umask())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
