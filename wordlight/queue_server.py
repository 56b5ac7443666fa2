"""The folder of the embedded queue server, and how a command beside the running service finds the queue.

In: settings; out: a URL. It must not know how the server is run.
"""

import os
from pathlib import Path

from pydantic import Field
from redis.exceptions import RedisError

from jobs.connection import connect
from jobs.settings import QueueSettings


class HomeSettings(QueueSettings):
    """What tells where the queue is."""

    home: Path = Field(Path(".wordlight"), description="folder of the embedded queue server's data")


class NoQueue(Exception):
    """There is no queue server to talk to. The message is one line."""


def socket_path(home: Path) -> Path:
    """Where the embedded server can be found; a link, where the path would be too long for a socket."""
    return home.absolute() / "valkey.sock"


def queue_url(settings: HomeSettings) -> str:
    """The URL of the queue that the service here uses: REDIS_URL, or else the embedded server's, while it runs.

    Raises NoQueue when it does not answer.
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
        # Its own message may be long, and at its head is what went wrong.
        raise NoQueue(f"no queue server answers {where}: {str(error).splitlines()[0]}") from error
    return url
