"""Connect to Redis or Valkey: one server, or the primary that Sentinels name, with or without TLS.

    redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER]                                   one server
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/NAME[/NUMBER]    the primary called NAME
    unix://[[USER]:PASSWORD@]PATH[?db=NUMBER]                                        one server on this machine

`rediss` instead of `redis` means TLS. `connect` and `connect_async` return redis-py clients with timeouts and retries.
Error messages never quote the URL, because it may contain a password.
"""

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from redis import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis import asyncio as aioredis
from redis.asyncio import sentinel as aiosentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

# The longest time that a blocking read may block. It is well below the timeout: only a server that is down times out.
BLOCK_SECONDS = 1.0
_TIMEOUT_SECONDS = 5.0
_SENTINEL_TIMEOUT_SECONDS = 1.0  # short, because Sentinels are asked one after the other
_RETRIES = 2
_CONNECTIONS = 32
_POOL_WAIT_SECONDS = 30.0
# A connection that only listens notices a dead peer by keepalive alone.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}

_FORMS = (
    "not a URL of the form redis://[[USER]:PASSWORD@]HOST:PORT/NUMBER (rediss:// for TLS), unix://PATH "
    "or redis+sentinel://HOST:PORT,HOST:PORT/NAME"
)
_SCHEME = re.compile(r"redis(?P<tls>s?)(?P<sentinel>\+sentinel)?|unix")
# A host, or an IPv6 address in brackets, with an optional port.
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<name>[\w.-]+))(?::(?P<port>\d{1,5}))?")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed REDIS_URL.

    `options` (and `sentinel_options`, for the Sentinels) are the arguments of a redis-py connection that say who logs
    in, to which database, and how TLS is checked.
    """

    hosts: tuple[tuple[str, int], ...] = ()  # of the server, or of the Sentinels; none for a Unix socket
    path: str = ""  # of a Unix socket
    service: str = ""  # the Sentinels' name of the primary; empty without Sentinels
    tls: bool = False
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)


def connect(url: str) -> Redis:
    """Return a client for threads. It connects at its first command. Raises ValueError for an invalid URL."""
    address = parse_url(url)
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), _RETRIES)
    options = _connection_options(address) | {"retry": retry}
    if address.service:
        sentinels = _Sentinels(address)
        pool: ConnectionPool
        pool = SentinelConnectionPool(address.service, sentinels, ssl=address.tls, **options)  # type: ignore[no-untyped-call]
    elif address.path:
        pool = ConnectionPool(connection_class=UnixDomainSocketConnection, **options)
    else:
        pool = ConnectionPool(connection_class=SSLConnection if address.tls else Connection, **options)
    return Redis.from_pool(pool)


def connect_async(url: str) -> aioredis.Redis:
    """Return a client for asyncio. It connects at its first command. Raises ValueError for an invalid URL.

    When all its connections are in use, a command waits for one: a single event may wake hundreds of requests.
    """
    address = parse_url(url)
    retry = AsyncRetry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), _RETRIES)
    options = _connection_options(address) | {
        "retry": retry,
        "max_connections": _CONNECTIONS,
        "timeout": _POOL_WAIT_SECONDS,
    }
    if address.service:
        sentinels = _AsyncSentinels(address)
        pool: aioredis.BlockingConnectionPool
        pool = _AsyncSentinelPool(address.service, sentinels, ssl=address.tls, **options)  # type: ignore[no-untyped-call]
    else:
        kind: type[aioredis.connection.AbstractConnection] = aioredis.Connection
        if address.path:
            kind = aioredis.UnixDomainSocketConnection
        elif address.tls:
            kind = aioredis.SSLConnection
        pool = aioredis.BlockingConnectionPool(connection_class=kind, **options)
    return aioredis.Redis.from_pool(pool)


def parse_url(url: str) -> Address:
    """Parse a REDIS_URL. Raises ValueError with a one-line message that contains no part of the URL."""
    scheme, separator, rest = url.partition("://")
    match = _SCHEME.fullmatch(scheme)
    if not separator or "#" in rest or match is None:
        raise ValueError(_FORMS)
    rest, _, query = rest.partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if scheme == "unix":
        user, _, path = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
        if not path.startswith("/"):
            raise ValueError(_FORMS)
        options = _database(parameters.pop("db", "")) | _login(user)
        _refuse_unknown(parameters)
        return Address(path=unquote(path), options=options)
    authority, _, path = rest.partition("/")
    user, _, names = authority.rpartition("@")
    hosts = tuple(_host(name, 26379 if match["sentinel"] else 6379) for name in names.split(","))
    service, sentinel_login = "", {}
    if match["sentinel"]:
        service, _, path = path.partition("/")
        if not service:
            raise ValueError("the Sentinels' name of the service is missing: redis+sentinel://HOST:PORT,HOST:PORT/NAME")
        sentinel_login = {name.removeprefix("sentinel_"): parameters.pop(name, None) for name in _SENTINEL_LOGIN}
    elif len(hosts) > 1:
        raise ValueError("several hosts are Sentinels: redis+sentinel://HOST:PORT,HOST:PORT/NAME")
    options = _database(parameters.pop("db", path)) | _login(user)
    tls = _tls(parameters) if match["tls"] else {}
    _refuse_unknown(parameters)
    return Address(
        hosts=hosts,
        service=unquote(service),
        tls=bool(match["tls"]),
        options=options | tls,
        sentinel_options=sentinel_login | tls if service else {},
    )


def hide_secrets(url: str) -> str:
    """Return a valid URL in a form that can be shown: `***` replaces user and password, and parameters are left out."""
    parse_url(url)
    scheme, _, rest = url.partition("://")
    user, at, location = rest.partition("?")[0].rpartition("@")
    return f"{scheme}://{'***@' if at and '/' not in user else user + at}{location}"


class _Sentinels:
    """Asks the Sentinels for the primary.

    Each query uses a new redis-py `Sentinel`: that class reorders its list of Sentinels after a query, and concurrent
    queries can drop one from the list. This class also replaces its error message, which shows the clients with all
    their options.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    def discover_master(self, service_name: str) -> tuple[str, int]:
        sentinel = Sentinel(self._address.hosts, sentinel_kwargs=_sentinel_options(self._address))  # type: ignore[no-untyped-call]
        try:
            return sentinel.discover_master(service_name)  # type: ignore[no-untyped-call, no-any-return]
        except MasterNotFoundError:
            raise MasterNotFoundError("no Sentinel that answers knows a live primary of that name") from None
        except ResponseError as error:
            raise MasterNotFoundError(f"a Sentinel refuses to answer: {error}") from None
        finally:
            for client in sentinel.sentinels:
                client.close()


class _AsyncSentinels:
    """The same for asyncio. It asks in a thread, because asyncio waits for the peer when it closes a TLS connection."""

    def __init__(self, address: Address) -> None:
        self._sentinels = _Sentinels(address)

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        return await asyncio.to_thread(self._sentinels.discover_master, service_name)


class _AsyncSentinelPool(aiosentinel.SentinelConnectionPool, aioredis.BlockingConnectionPool):
    """Connections to the primary that Sentinels name; a command waits while all are in use."""


def _connection_options(address: Address) -> dict[str, Any]:
    """Arguments for a redis-py connection to the server itself."""
    options = address.options | {
        "protocol": 2,  # our code reads answers in the shapes of RESP2
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
    }
    if address.path:
        return options | {"path": address.path}
    options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    if address.service:
        return options
    ((host, port),) = address.hosts
    return options | {"host": host, "port": port}


def _sentinel_options(address: Address) -> dict[str, Any]:
    """Arguments for a redis-py client of one Sentinel."""
    return address.sentinel_options | {
        "ssl": address.tls,
        "socket_timeout": _SENTINEL_TIMEOUT_SECONDS,
        "socket_connect_timeout": _SENTINEL_TIMEOUT_SECONDS,
        "retry": None,
    }


def _host(text: str, default_port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match["port"] or default_port) < 65536:
        raise ValueError(f"{_FORMS}; special characters of a password are percent-encoded")
    return match["ipv6"] or match["name"], int(match["port"] or default_port)


def _login(user: str) -> dict[str, Any]:
    name, _, password = user.partition(":")
    if name and not password:
        raise ValueError("a user needs a password: redis://USER:PASSWORD@HOST:PORT/NUMBER")
    return {"username": unquote(name) or None, "password": unquote(password) or None}


def _database(text: str) -> dict[str, Any]:
    if not re.fullmatch(r"\d{0,5}", text, re.ASCII):
        raise ValueError("the database, after the last slash, is a number")
    return {"db": int(text or 0)}


def _tls(parameters: dict[str, str]) -> dict[str, Any]:
    """Take the TLS options out of the URL's parameters. Without a CA file, the system's authorities are trusted."""
    options: dict[str, Any] = {name: parameters.pop(name, None) for name in _TLS_FILES}
    for name, path in options.items():
        if path is not None and not Path(path).is_file():
            raise ValueError(f"{name} names a file that does not exist")
    if options["ssl_keyfile"] and not options["ssl_certfile"]:
        raise ValueError("ssl_keyfile needs an ssl_certfile")
    check = parameters.pop("ssl_check_hostname", "true").lower()
    if check not in ("true", "false"):
        raise ValueError("ssl_check_hostname is true or false")
    return options | {"ssl_check_hostname": check == "true", "ssl_min_version": ssl.TLSVersion.TLSv1_2}


def _refuse_unknown(parameters: dict[str, str]) -> None:
    if parameters:
        raise ValueError(
            f"an unknown parameter after the question mark. Known are db; with TLS (rediss) {', '.join(_TLS_FILES)}, "
            f"ssl_check_hostname; with Sentinels {', '.join(_SENTINEL_LOGIN)}"
        )
