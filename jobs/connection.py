"""Connections to Redis or Valkey. In: a URL; out: clients that wait, try again and give up within known times."""

from redis import Redis
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

# The longest a blocking read may block; well under the time-out, so that a silent server is told from a quiet one.
BLOCK_SECONDS = 1.0
_TIMEOUT_SECONDS = 5.0
_RETRIES = 2
_CONNECTIONS = 32
_QUEUE_SECONDS = 30.0


def connect(url: str) -> Redis:
    """A client for threads; raises ValueError for a URL that is none."""
    return Redis.from_url(
        url,
        protocol=2,  # the shapes of answers that we read are those of RESP2
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), _RETRIES),
    )


def connect_async(url: str) -> aioredis.Redis:
    """A client for asyncio; raises ValueError for a URL that is none."""
    # Hundreds of waiting clients are woken at once: their calls queue for a connection instead of failing.
    pool = aioredis.BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_QUEUE_SECONDS,
        protocol=2,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=AsyncRetry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), _RETRIES),
    )
    return aioredis.Redis.from_pool(pool)
