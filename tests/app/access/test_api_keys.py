"""API keys in a real Valkey."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from redis import Redis

from app.access.api_keys import ApiKeys, KeyRefused, Scope
from jobs.connection import connect_async

T = TypeVar("T")

pytestmark = pytest.mark.every_queue_server


@pytest.fixture
def with_keys(redis_url: str) -> Callable[[Callable[[ApiKeys], Awaitable[T]]], T]:
    """Run a coroutine with the keys of an empty Valkey."""

    def run(act: Callable[[ApiKeys], Awaitable[T]]) -> T:
        async def connected() -> T:
            async with connect_async(redis_url) as redis:
                return await act(ApiKeys(redis))

        return asyncio.run(connected())

    return run


Run = Callable[[Callable[[ApiKeys], Awaitable[None]]], None]


def test_a_key_is_found_by_its_secret_until_it_is_revoked(with_keys: Run) -> None:
    async def act(keys: ApiKeys) -> None:
        key, secret = await keys.create("blog", [Scope.METRICS, Scope.READ], "5/second;1000/day")
        assert re.fullmatch(rf"wl_{key.id}_[A-Za-z0-9_-]{{43}}", secret)
        assert await keys.find(secret) == key
        assert set(key.scopes) == {Scope.METRICS, Scope.READ}
        assert await keys.list() == [key]
        revoked = await keys.revoke(key.id)
        assert revoked
        assert revoked.revoked_at
        assert await keys.find(secret) is None
        assert await keys.list() == [revoked]
        assert await keys.revoke(key.id) == revoked  # the time of the first call stays
        assert await keys.revoke("blog") is None  # no active key has this name
        assert await keys.revoke("unknown") is None

    with_keys(act)


def test_the_secret_is_not_stored(with_keys: Run, redis: Redis) -> None:
    secrets = []

    async def act(keys: ApiKeys) -> None:
        secrets.append((await keys.create("blog"))[1])

    with_keys(act)
    names = [name.decode() for name in redis.scan_iter()]
    assert f"{{wordlight}}:key:{hashlib.sha256(secrets[0].encode()).hexdigest()}" in names
    assert all(secrets[0].encode() not in (redis.dump(name) or b"") for name in names)


def test_concurrent_creation_gives_a_name_once(with_keys: Run) -> None:
    async def act(keys: ApiKeys) -> None:
        answers = await asyncio.gather(*[keys.create("blog") for _ in range(20)], return_exceptions=True)
        made = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert len(made) == 1
        assert all(isinstance(answer, KeyRefused) for answer in answers if answer not in made)
        assert await keys.list() == [made[0][0]]

    with_keys(act)


def test_an_id_takes_precedence_over_a_name(with_keys: Run) -> None:
    async def act(keys: ApiKeys) -> None:
        first, _ = await keys.create("first")
        impostor, secret = await keys.create(first.id)
        assert (await keys.revoke(first.id) or impostor).id == first.id
        assert await keys.find(secret) == impostor

    with_keys(act)


@pytest.mark.parametrize("name", ["", " ", "a\n", "\x1b[31m", "x" * 65, " a", "a\u202e"])
def test_unprintable_names_are_refused(with_keys: Run, name: str) -> None:
    async def act(keys: ApiKeys) -> None:
        with pytest.raises(KeyRefused):
            await keys.create(name)
        assert await keys.list() == []

    with_keys(act)


def test_keys_without_scopes_or_with_invalid_limits_are_refused(with_keys: Run) -> None:
    async def act(keys: ApiKeys) -> None:
        with pytest.raises(KeyRefused):
            await keys.create("a", scopes=[])
        for limit in ("", "lots", "0/minute", "1/fortnight", "2000000/day", "1/9999 year"):
            with pytest.raises(KeyRefused):
                await keys.create("a", limit=limit)

    with_keys(act)
