"""Every change of a job's state is one of the Lua scripts in this folder, so that it happens whole or not at all.

What each takes and returns stands on its first lines; what they share stands in prelude.lua. This module gives a
script its source and its arguments, for the client of either kind.
"""

from functools import cache
from importlib import resources

from jobs import keys
from jobs.settings import QueueSettings

# Where the memory that Redis may use is full, these are refused; all others go on, for only so does it empty again.
_TAKE_IN = ("submit", "send_back")


@cache
def read_script(name: str) -> str:
    """The whole source of the script `name`."""
    folder = resources.files(__name__)
    parts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name)]
    return "\n".join(parts if name in _TAKE_IN else ["#!lua flags=allow-oom", *parts])


def script_keys() -> list[str]:
    """KEYS as prelude.lua wants them."""
    return [keys.STREAM]


def script_args(settings: QueueSettings, *more: str | bytes | int) -> list[str | bytes | int]:
    """ARGV as prelude.lua wants it, and what else a script takes."""
    return [keys.GROUP, settings.result_ttl_seconds * 1000, settings.max_pictures, *more]
