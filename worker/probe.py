"""`python -m worker.probe`: whether a worker of this machine has been heard of lately, told by the exit status.

For what keeps containers running: a worker listens on no port, but tells the queue that it lives. With `--patient`,
a queue that cannot be asked is no reason to complain: starting a worker again does not bring a queue back.
"""

import socket
import sys
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from jobs import keys
from jobs.connection import connect
from jobs.settings import QueueSettings


def main() -> int:
    """Ask; returns the exit status, and says what is wrong."""
    settings = QueueSettings()
    try:
        with connect(settings.redis_url) as redis:
            alive = is_alive(redis, settings, socket.gethostname())
    except RedisError as error:
        print(f"the queue cannot be asked: {error}", file=sys.stderr)  # noqa: T201
        return 0 if "--patient" in sys.argv[1:] else 1
    if not alive:
        print("no worker of this machine has been heard of lately", file=sys.stderr)  # noqa: T201
    return 0 if alive else 1


def is_alive(redis: Redis, settings: QueueSettings, host: str) -> bool:
    """Whether a worker on `host` has been heard of lately. May raise redis.exceptions.RedisError."""
    seconds, micros = redis.time()
    since = settings.alive_since(seconds + micros / 1e6)
    workers = cast(list[bytes], redis.zrange(keys.WORKERS, int(since), "+inf", byscore=True))
    # HOST-PROCESS-DIGITS, as jobs/consumer.py names them.
    return any(worker.decode().rsplit("-", 2)[0] == host for worker in workers)


if __name__ == "__main__":
    sys.exit(main())
