"""Rate limits: how many pictures a key may send within which time.

In: a caller and a number of pictures; out: nothing, or the 429. Exact, over all web processes together: every picture
is remembered for as long as its limit looks back, and taking places is one atomic script of the library `limits`.
"""

import math
import time

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis import asyncio as aioredis

from app.access.caller import Caller
from app.limit import parse_limit
from app.problems import ProblemError
from jobs import keys


class RateLimits:
    """What each key has spent."""

    def __init__(self, redis: aioredis.Redis, default: str | None) -> None:
        """`default` is the limit of callers without one of their own."""
        self._default = default
        self._storage = RedisStorage(
            "async+redis://",  # not used: it shares our connections, with their time-outs
            implementation="redispy",
            key_prefix=keys.LIMITS,
            connection_pool=redis.connection_pool,  # type: ignore[arg-type]  # as the library's documentation has it
        )
        self._limiter = MovingWindowRateLimiter(self._storage)

    async def spend(self, caller: Caller, pictures: int) -> None:
        """Take places for `pictures`, all or none.

        Raises the 429, which says when to come back if ever; may raise redis.exceptions.RedisError.
        """
        limit = caller.limit or self._default
        # The shortest first: places taken before a longer one says no are free again the soonest.
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
        detail = f"this key may send {item.amount} pictures per {item.multiples} {item.GRANULARITY.name}"
        if pictures > item.amount:
            detail += f", so never {pictures} at once"
        else:
            # There are places enough when this picture, the youngest that is in the way, is old enough.
            taken, _ = await self._storage.get_moving_window(
                item.key_for(caller.key_id), item.amount - pictures + 1, period
            )
            headers["Retry-After"] = str(_seconds_until(taken + period))
        return ProblemError("rate-limited", "Rate limited", 429, detail, headers)


def _seconds_until(moment: float) -> int:
    return max(1, math.ceil(moment - time.time()))
