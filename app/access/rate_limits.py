"""Rate limits: how many pictures a key may send within a period.

Limits are exact across all web processes: Redis stores every picture within the period (a moving window), and the
`limits` library checks and updates the window in one atomic script.
"""

import math
import time

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis import asyncio as aioredis

from app.access.middleware import Caller
from app.problems import ProblemError
from app.settings import parse_limit
from jobs import keys


class RateLimits:
    """Counts the pictures of each key."""

    def __init__(self, redis: aioredis.Redis, default: str | None) -> None:
        """Create the counter. `default` is the limit of callers without their own."""
        self._default = default
        self._storage = RedisStorage(
            "async+redis://",  # unused: the storage shares our connection pool and its timeouts
            implementation="redispy",
            key_prefix=keys.LIMITS,
            connection_pool=redis.connection_pool,  # type: ignore[arg-type]  # as its documentation shows
        )
        self._limiter = MovingWindowRateLimiter(self._storage)

    async def consume(self, caller: Caller, pictures: int) -> None:
        """Count `pictures` towards the caller's limit, all or none of them.

        Raises ProblemError (429, with Retry-After unless the request can never succeed) or, if Redis fails,
        redis.exceptions.RedisError.
        """
        limit = caller.limit or self._default
        # The shortest period first: if a longer one refuses, what the shorter ones counted expires soonest.
        for item in parse_limit(limit) if limit else ():
            if not await self._limiter.hit(item, caller.key_id, cost=pictures):
                raise await self._exceeded(item, caller, pictures)

    async def _exceeded(self, item: RateLimitItem, caller: Caller, pictures: int) -> ProblemError:
        period = item.get_expiry()
        reset, remaining = await self._limiter.get_window_stats(item, caller.key_id)
        # The fields of draft-ietf-httpapi-ratelimit-headers-10.
        headers = {
            "RateLimit-Policy": f'"{item!r}";q={item.amount};w={period}',
            "RateLimit": f'"{item!r}";r={remaining};t={_seconds_until(reset)}',
        }
        detail = f"This key may send {item.amount} pictures per {item.multiples} {item.GRANULARITY.name}"
        if pictures > item.amount:
            detail += f", so a request can never have {pictures}"
        else:
            # There is room when the latest picture that has to leave the window has left.
            sent_at, _ = await self._storage.get_moving_window(
                item.key_for(caller.key_id), item.amount - pictures + 1, period
            )
            headers["Retry-After"] = str(_seconds_until(sent_at + period))
        return ProblemError("rate-limited", "Rate limited", 429, f"{detail}.", headers)


def _seconds_until(moment: float) -> int:
    return max(1, math.ceil(moment - time.time()))
