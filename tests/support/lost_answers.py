"""Connections that can lose a server's answer, so that the client library repeats the call."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from redis import Connection, Redis
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

_lose = False


@contextmanager
def one_answer_lost(lose: bool = True) -> Iterator[None]:
    """Lose the first answer to a script call inside, if `lose`: the script has run and is called again."""
    global _lose
    _lose = lose
    try:
        yield
    finally:
        _lose = False


def losing(client: Redis) -> Redis:
    """Let the connections of a client that has not connected yet lose answers."""
    client.connection_pool.connection_class = _Connection
    client.connection_pool.connection_kwargs["retry"] = Retry(NoBackoff(), 2)
    return client


def losing_async(client: aioredis.Redis) -> aioredis.Redis:
    """Let the connections of a client that has not connected yet lose answers."""
    client.connection_pool.connection_class = _AsyncConnection
    client.connection_pool.connection_kwargs["retry"] = AsyncRetry(NoBackoff(), 2)
    return client


def _is_lost(command: Any) -> bool:
    global _lose
    parts = [command] if isinstance(command, bytes) else command
    if _lose and any(b"EVALSHA" in part for part in parts):
        _lose = False
        return True
    return False


class _Connection(Connection):
    _losing: ClassVar[bool] = False

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._losing = _is_lost(command)
        super().send_packed_command(command, check_health)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        answer = super().read_response(*args, **kwargs)
        if self._losing:
            self._losing = False
            self.disconnect()
            raise ConnectionError("the answer was lost")
        return answer


class _AsyncConnection(aioredis.Connection):
    _losing: ClassVar[bool] = False

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._losing = _is_lost(command)
        await super().send_packed_command(command, check_health)

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        answer = await super().read_response(*args, **kwargs)
        if self._losing:
            self._losing = False
            await self.disconnect()
            raise ConnectionError("the answer was lost")
        return answer
