"""A file's name: as a stranger wrote it → as it may be shown. It is never a path to anything here."""

import re
import unicodedata
from typing import Final

_LONGEST: Final = 200  # characters; file systems allow 255 bytes
_NAMELESS: Final = "unnamed"


def shown_name(name: str) -> str:
    """The last part of `name`, whichever way its slashes lean, on one printable line of at most 200 characters."""
    last = re.split(r"[/\\]", name)[-1]
    # In macOS, letters come apart from their accents, and the spaces in names of screenshots are not plain ones.
    composed = unicodedata.normalize("NFC", last)
    clean = "".join(_printable(character) for character in composed).strip()
    if len(clean) > _LONGEST:
        clean = clean[: _LONGEST - 1] + "…"
    return clean or _NAMELESS


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
