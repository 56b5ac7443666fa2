"""Every change of a job's state is one of the Lua scripts in this folder, so that it happens whole or not at all.

What each takes and returns stands on its first lines; what they share stands in prelude.lua. This module gives a
script its source and its arguments, for the client of either kind.
"""

from functools import cache
from importlib import resources

from jobs import keys


@cache
def read_script(name: str) -> str:
    """The whole source of the script `name`."""
    folder = resources.files(__name__)
    return "\n".join(folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name))


def script_keys(job_id: str, *more: str) -> list[str]:
    """KEYS as prelude.lua wants them; "" is the job id of scripts that are not about one job."""
    return [keys.STREAM, keys.record(job_id), keys.image(job_id), keys.events(job_id), *more]


def script_args(job_id: str, keep_seconds: float, *more: str | bytes | int) -> list[str | bytes | int]:
    """ARGV as prelude.lua wants it."""
    return [job_id, keys.GROUP, int(keep_seconds * 1000), keys.NOTICES, *more]
