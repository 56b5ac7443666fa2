"""Ids of jobs and batches: unguessable, sorted by time, and recognisable after the job is deleted.

An id is the hex form of 6 bytes of time (ms), 8 random bytes, and 4 bytes of HMAC-SHA256 over these and the owner. The
service can therefore answer "gone" instead of "not found" for a deleted job, without keeping anything of it.
"""

import hashlib
import hmac
import re
import secrets
import time

from redis import asyncio as aioredis

from jobs import keys

_TIME, _RANDOM, _MAC = 6, 8, 4
_SECRET_BYTES = 32
_FORM = re.compile(f"[0-9a-f]{{{2 * (_TIME + _RANDOM + _MAC)}}}")


def new_id(secret: bytes, owner: str) -> str:
    """Return a new id."""
    prefix = int(time.time() * 1000).to_bytes(_TIME, "big") + secrets.token_bytes(_RANDOM)
    return (prefix + _mac(secret, owner, prefix)).hex()


def issued(secret: bytes, owner: str, job_id: str) -> bool:
    """Whether `new_id` once returned `job_id` for this owner."""
    if not _FORM.fullmatch(job_id):
        return False
    raw = bytes.fromhex(job_id)
    return hmac.compare_digest(raw[-_MAC:], _mac(secret, owner, raw[:-_MAC]))


async def shared_secret(redis: aioredis.Redis) -> bytes:
    """Return the secret that all web processes on one Redis share; the first that asks creates it.

    It authenticates ids and tickets. It is read each time: after Redis has lost its data, all processes must agree on
    the new one. Raises redis.exceptions.RedisError.
    """
    secret = await redis.get(keys.SECRET)
    if secret is None:
        await redis.set(keys.SECRET, secrets.token_bytes(_SECRET_BYTES), nx=True)
        secret = await redis.get(keys.SECRET)
    assert isinstance(secret, bytes)
    return secret


def _mac(secret: bytes, owner: str, prefix: bytes) -> bytes:
    return hmac.new(secret, b"id:" + prefix + owner.encode(), hashlib.sha256).digest()[:_MAC]
