"""Finds the one server that takes our writes, where REDIS_URL names who knows it: Sentinels, or nodes of a cluster.

All our keys share one hash tag, and so a slot: of a cluster, too, we need a single server, and everything that works
with one works here: scripts, transactions, pipelines, blocking reads, pub/sub. In: an address; out: host and port.
"""

import ssl
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError, MovedError, RedisError, ResponseError
from redis.sentinel import MasterNotFoundError, Sentinel

from jobs import keys
from jobs.address import Address, Credentials, Kind, Tls

# Who knows is asked one after the other, so that the dead must not take long.
_TIMEOUT_SECONDS = 1.0


def find_primary(address: Address) -> tuple[str, int]:
    """The server's host and port, as it is known now. Raises redis.exceptions.ConnectionError when nobody knows."""
    return _ask_sentinels(address) if address.kind is Kind.SENTINEL else _ask_cluster(address)


def tls_options(tls: Tls | None) -> dict[str, Any]:
    """What a connection of redis-py that speaks TLS is told; nothing where it speaks none."""
    if tls is None:
        return {}
    return {
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.certificate,
        "ssl_keyfile": tls.key,
        "ssl_check_hostname": tls.check_hostname,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }


def _options(tls: Tls | None, credentials: Credentials) -> dict[str, Any]:
    return {
        "username": credentials.username,
        "password": credentials.password,
        "ssl": tls is not None,
        **tls_options(tls),
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
        "retry": None,
    }


def _ask_sentinels(address: Address) -> tuple[str, int]:
    # Made anew each time: connections are made seldom, and the library's object is not for several threads.
    options = _options(address.tls, address.sentinel_credentials)
    sentinel = Sentinel(address.nodes, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
    try:
        host, port = sentinel.discover_master(address.service)  # type: ignore[no-untyped-call]
        return host, port
    except MasterNotFoundError as error:
        # What the library says is long: all of its clients, with their options.
        raise ConnectionError("none of the Sentinels that answer knows a primary of that name which lives") from error
    except ResponseError as error:
        raise ConnectionError(f"a Sentinel refuses to answer: {error}") from error
    finally:
        for client in sentinel.sentinels:
            client.close()


def _ask_cluster(address: Address) -> tuple[str, int]:
    said = "no node of the cluster answers"
    for host, port in address.nodes:
        try:
            with Redis(host, port, **_options(address.tls, address.credentials)) as client:
                client.exists(keys.STREAM)
                return host, port  # asked for one of our keys, it answers: the slot is its own
        except MovedError as moved:
            # Without a host it means: at the one that you have asked.
            return moved.host or host, moved.port
        except RedisError as error:
            said = f"no node of the cluster knows where our keys are: {error}"
    raise ConnectionError(said)
