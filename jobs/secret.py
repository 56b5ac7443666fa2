"""The secret that all web processes on one Redis share: it seals ids and tickets. Made by the first that asks."""

import secrets
from weakref import WeakKeyDictionary

from redis import asyncio as aioredis

from jobs import keys

_BYTES = 32
_known: WeakKeyDictionary[aioredis.Redis, bytes] = WeakKeyDictionary()


async def shared_secret(redis: aioredis.Redis) -> bytes:
    """The secret; asked for once a client. May raise redis.exceptions.RedisError."""
    if redis not in _known:
        await redis.set(keys.SECRET, secrets.token_bytes(_BYTES), nx=True)
        secret = await redis.get(keys.SECRET)
        assert isinstance(secret, bytes)
        _known[redis] = secret
    return _known[redis]
