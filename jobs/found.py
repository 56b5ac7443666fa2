"""Connections of redis-py to a server that is looked for whenever one is made, and again when it is no more the one.

Both kinds, for threads and for asyncio, with TLS and without. In: `find`, which says host and port; out: connections
that are lost, as redis-py understands it, when the server is a primary no longer. What is lost is made anew, and what
was asked is asked again, by the retries of the client.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from redis import Connection, SSLConnection
from redis.asyncio import Connection as AsyncConnection
from redis.asyncio import SSLConnection as AsyncSSLConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    ReadOnlyError,
    TryAgainError,
)

Find = Callable[[], tuple[str, int]]

# What a server says that has not done what it was asked, because it is not the one to ask (now). MOVED is an ASK, too.
_NOT_THE_ONE = (ReadOnlyError, AskError, TryAgainError, ClusterDownError, MasterDownError)


class FoundConnection(Connection):
    """For threads."""

    def __init__(self, *, find: Find, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._find = find

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Look for the server, and connect."""
        if not self.is_connected:
            self.host, self.port = self._find()
        super().connect_check_health(check_health, retry_socket_connect)

    def read_response(self, *args: Any, **options: Any) -> Any:
        """What the server answers."""
        try:
            return super().read_response(*args, **options)
        except _NOT_THE_ONE as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise ConnectionError(f"this server is not the primary now: {error}") from error


class FoundSSLConnection(FoundConnection, SSLConnection):
    """For threads, with TLS."""


class AsyncFoundConnection(AsyncConnection):
    """For asyncio."""

    def __init__(self, *, find: Find, **options: Any) -> None:
        super().__init__(**options)
        self._find = find

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Look for the server, and connect."""
        if not self.is_connected:
            self.host, self.port = await asyncio.to_thread(self._find)
        await super().connect_check_health(check_health, retry_socket_connect)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """What the server answers."""
        try:
            return await super().read_response(*args, **options)
        except _NOT_THE_ONE as error:
            await self.disconnect()
            raise ConnectionError(f"this server is not the primary now: {error}") from error


class AsyncFoundSSLConnection(AsyncFoundConnection, AsyncSSLConnection):
    """For asyncio, with TLS."""
