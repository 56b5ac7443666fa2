"""Rate limits, counted in a real Valkey."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from redis import Redis
from redis import asyncio as aioredis
from redis.exceptions import RedisError

from app.access.middleware import Caller
from app.access.rate_limits import RateLimits
from app.problems import ProblemError
from jobs.connection import connect_async

pytestmark = pytest.mark.every_queue_server


def caller(limit: str | None = None, key_id: str = "key") -> Caller:
    return Caller(key_id, frozenset(), limit)


async def consumed(limits: RateLimits, who: Caller, pictures: int) -> int:
    """Consume and return the number of counted pictures: all or 0."""
    try:
        await limits.consume(who, pictures)
    except ProblemError:
        return 0
    return pictures


async def refusal(limits: RateLimits, who: Caller, pictures: int) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        await limits.consume(who, pictures)
    assert (caught.value.problem.status, caught.value.problem.type) == (429, "urn:wordlight:problem:rate-limited")
    return caught.value


Run = Callable[[Callable[[aioredis.Redis], Awaitable[None]]], None]


@pytest.fixture
def with_redis(redis_url: str) -> Run:
    """Run a coroutine with a client of an empty Valkey."""

    def run(act: Callable[[aioredis.Redis], Awaitable[None]]) -> None:
        async def connected() -> None:
            async with connect_async(redis_url) as redis:
                await act(redis)

        asyncio.run(connected())

    return run


def test_concurrent_processes_never_exceed_a_limit(redis_url: str) -> None:
    async def act() -> None:
        processes = [connect_async(redis_url) for _ in range(4)]
        limits = [RateLimits(redis, None) for redis in processes]
        who = caller("37/hour")
        ones = await asyncio.gather(*[consumed(limits[n % 4], who, 1) for n in range(200)])
        assert sum(ones) == 37
        # A request counts with all its pictures or not at all: 37 = 7 · 5 + 2.
        other = caller("37/hour", "other")
        fives = await asyncio.gather(*[consumed(limits[n % 4], other, 5) for n in range(40)])
        assert sum(fives) == 35
        assert await consumed(limits[0], other, 3) == 0
        assert await consumed(limits[0], other, 2) == 2
        for redis in processes:
            await redis.aclose()

    asyncio.run(act())


def test_several_limits_apply_together(with_redis: Run) -> None:
    async def act(redis: aioredis.Redis) -> None:
        limits = RateLimits(redis, None)
        who = caller("3/day;5/hour")
        assert [await consumed(limits, who, 1) for _ in range(4)] == [1, 1, 1, 0]
        error = await refusal(limits, who, 1)
        assert (error.headers or {})["RateLimit-Policy"] == '"3 per 1 day";q=3;w=86400'

    with_redis(act)


def test_a_key_limit_takes_precedence_over_the_default(with_redis: Run) -> None:
    async def act(redis: aioredis.Redis) -> None:
        limits = RateLimits(redis, "1/hour")
        assert [await consumed(limits, caller(), 1) for _ in range(2)] == [1, 0]
        assert [await consumed(limits, caller("2/hour", "rich"), 1) for _ in range(3)] == [1, 1, 0]
        assert await consumed(limits, caller(key_id=""), 1) == 1  # without keys, all callers share one limit
        unlimited = RateLimits(redis, None)
        assert await consumed(unlimited, caller(), 10_000) == 10_000

    with_redis(act)


def test_a_request_larger_than_the_limit_gets_no_retry_after(with_redis: Run) -> None:
    async def act(redis: aioredis.Redis) -> None:
        limits = RateLimits(redis, None)
        error = await refusal(limits, caller("5/hour"), 6)
        assert "Retry-After" not in (error.headers or {})
        assert "never have 6" in error.problem.detail
        assert await consumed(limits, caller("5/hour"), 5) == 5  # the refused request did not count

    with_redis(act)


def test_retry_after_is_when_the_whole_request_fits(with_redis: Run, redis: Redis) -> None:
    async def act(client: aioredis.Redis) -> None:
        limits, who = RateLimits(client, None), caller("3/hour")
        await limits.consume(who, 1)
        (name,) = list(redis.scan_iter("{wordlight}:limit*"))
        now = time.time()
        redis.delete(name)
        redis.lpush(name, *[str(now - age) for age in (3000, 2000, 1000)])
        for pictures, seconds in ((1, 600), (2, 1600), (3, 2600)):
            headers = (await refusal(limits, who, pictures)).headers or {}
            # Tolerates a slow machine.
            assert seconds - 60 < int(headers["Retry-After"]) <= seconds
            assert headers["RateLimit"].startswith('"3 per 1 hour";r=0;t=')
        redis.delete(name)
        redis.lpush(name, *[str(now - age) for age in (3700, 2000, 1000)])
        assert await consumed(limits, who, 1) == 1

    with_redis(act)


def test_without_redis_the_error_is_not_a_rate_limit() -> None:
    async def act() -> None:
        async with connect_async("unix:///nowhere") as redis:
            with pytest.raises(RedisError):
                await RateLimits(redis, None).consume(caller("5/hour"), 1)

    asyncio.run(act())
