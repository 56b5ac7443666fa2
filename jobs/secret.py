"""The secret that all web processes on one Redis share: it seals ids and tickets. Made by the first that asks."""

import secrets

from redis import asyncio as aioredis

from jobs import keys

_BYTES = 32


async def shared_secret(redis: aioredis.Redis) -> bytes:
    """The secret. May raise redis.exceptions.RedisError.

    It is not remembered here: if Redis lost what it held, processes would go on with different ones.
    """
    secret = await redis.get(keys.SECRET)
    if secret is None:
        await redis.set(keys.SECRET, secrets.token_bytes(_BYTES), nx=True)
        secret = await redis.get(keys.SECRET)
    assert isinstance(secret, bytes)
    return secret
