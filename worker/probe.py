"""`python -m worker.probe`: report by exit status whether a worker on this machine has sent a heartbeat lately.

For health checks of containers: a worker listens on no port. With `--patient`, an unreachable queue does not count as
a failure, because restarting the worker would not bring the queue back.
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
    """Ask the queue, print what is wrong, and return the exit status."""
    settings = QueueSettings()
    try:
        with connect(settings.redis_url) as redis:
            alive = is_alive(redis, settings, socket.gethostname())
    except RedisError as error:
        print(f"cannot reach the queue: {error}", file=sys.stderr)  # noqa: T201
        return 0 if "--patient" in sys.argv[1:] else 1
    if not alive:
        print("no worker on this machine has sent a heartbeat lately", file=sys.stderr)  # noqa: T201
    return 0 if alive else 1


def is_alive(redis: Redis, settings: QueueSettings, host: str) -> bool:
    """Whether a worker on `host` has sent a heartbeat lately. Raises redis.exceptions.RedisError."""
    seconds, micros = redis.time()
    since = settings.alive_since(seconds + micros / 1e6)
    workers = cast(list[bytes], redis.zrange(keys.WORKERS, int(since), "+inf", byscore=True))
    # A worker's name is HOST-PID-RANDOM (jobs/consumer.py).
    return any(worker.decode().rsplit("-", 2)[0] == host for worker in workers)


if __name__ == "__main__":
    sys.exit(main())
