"""The Lua scripts. Each changes the state of a job in one atomic step.

The first lines of a script describe its arguments and its answer. prelude.lua has what they share. This module provides
a script's source and common arguments.
"""

from functools import cache
from importlib import resources

from jobs import keys
from jobs.settings import QueueSettings

# When Redis has used all of its memory, it refuses these scripts. The others still run, so that jobs end and free it.
_ADD_JOBS = ("submit", "send_back")


@cache
def read_script(name: str) -> str:
    """Return the source of the script `name`, with the prelude."""
    folder = resources.files(__name__)
    parts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name)]
    return "\n".join(parts if name in _ADD_JOBS else ["#!lua flags=allow-oom", *parts])


def script_keys() -> list[str]:
    """Return KEYS for any script."""
    return [keys.STREAM]


def script_args(settings: QueueSettings, *more: str | bytes | int) -> list[str | bytes | int]:
    """Return ARGV for any script: the arguments of the prelude, then `more`."""
    return [keys.GROUP, settings.result_ttl_seconds * 1000, settings.max_pictures, *more]
