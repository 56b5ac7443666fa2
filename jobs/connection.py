"""Connections to Redis or Valkey. In: a URL; out: clients that wait, try again and give up within known times."""

import socket
from functools import partial
from typing import Any

from redis import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from jobs.address import Address, Kind, parse_address
from jobs.found import AsyncFoundConnection, AsyncFoundSSLConnection, FoundConnection, FoundSSLConnection
from jobs.primary import find_primary, tls_options

# The longest a blocking read may block; well under the time-out, so that a silent server is told from a quiet one.
BLOCK_SECONDS = 1.0
_TIMEOUT_SECONDS = 5.0
_RETRIES = 2
_CONNECTIONS = 32
_QUEUE_SECONDS = 30.0
# Who only listens never notices that the machine at the other end is gone, were it not asked now and then.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


def connect(url: str) -> Redis:
    """A client for threads; raises ValueError for a URL that is none."""
    address = parse_address(url)
    if address.path:
        kind: type[Connection | UnixDomainSocketConnection] = UnixDomainSocketConnection
    elif address.kind is Kind.SERVER:
        kind = SSLConnection if address.tls else Connection
    else:
        kind = FoundSSLConnection if address.tls else FoundConnection
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), _RETRIES)
    return Redis.from_pool(ConnectionPool(connection_class=kind, retry=retry, **_options(address)))


def connect_async(url: str) -> aioredis.Redis:
    """A client for asyncio; raises ValueError for a URL that is none."""
    address = parse_address(url)
    if address.path:
        kind: type[aioredis.connection.AbstractConnection] = aioredis.UnixDomainSocketConnection
    elif address.kind is Kind.SERVER:
        kind = aioredis.SSLConnection if address.tls else aioredis.Connection
    else:
        kind = AsyncFoundSSLConnection if address.tls else AsyncFoundConnection
    # Hundreds of waiting clients are woken at once: their calls queue for a connection instead of failing.
    pool = aioredis.BlockingConnectionPool(
        max_connections=_CONNECTIONS,
        timeout=_QUEUE_SECONDS,
        connection_class=kind,
        retry=AsyncRetry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), _RETRIES),
        **_options(address),
    )
    return aioredis.Redis.from_pool(pool)


def _options(address: Address) -> dict[str, Any]:
    """What a connection of either kind is told."""
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.credentials.username,
        "password": address.credentials.password,
        "protocol": 2,  # the shapes of answers that we read are those of RESP2
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
    }
    if address.path:
        return options | {"path": address.path}
    options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    if address.tls:
        options |= tls_options(address.tls)
    if address.kind is Kind.SERVER:
        ((host, port),) = address.nodes
        return options | {"host": host, "port": port}
    return options | {"find": partial(find_primary, address)}
