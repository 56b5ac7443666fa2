"""API keys: made, found, listed and revoked.

In: names and secrets; out: `ApiKey`s. Redis holds the SHA-256 of a secret and never the secret: it is 256 random bits,
which nobody guesses however fast the hash is, so a slow hash as for passwords would only slow us down. It must not
know how a secret arrives with a request, nor what a scope opens.
"""

import hashlib
import re
import secrets
import string
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

from pydantic import BaseModel, ConfigDict
from redis import asyncio as aioredis
from redis.exceptions import WatchError

from app.limit import parse_limit
from jobs import keys

_ID_CHARACTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 8
_SECRET = re.compile(rf"wl_[{_ID_CHARACTERS}]{{{_ID_LENGTH}}}_[A-Za-z0-9_-]{{43}}")
_LONGEST_NAME = 64


class Scope(StrEnum):
    """What a key may be good for."""

    READ = "read"  # look at jobs, at the page and at the documentation
    WRITE = "write"  # send pictures, cancel and delete jobs
    METRICS = "metrics"


DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)


class KeyRefused(Exception):
    """A key that cannot be made so. The message is one line."""


class ApiKey(BaseModel):
    """All that is known of a key, which is not its secret."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    scopes: tuple[Scope, ...]
    limit: str | None
    created_at: datetime
    revoked_at: datetime | None


class ApiKeys:
    """The keys of one service. Every method may raise redis.exceptions.RedisError."""

    def __init__(self, redis: aioredis.Redis) -> None:
        self._redis = redis

    async def create(
        self, name: str, scopes: Iterable[Scope] = DEFAULT_SCOPES, limit: str | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key; returns it with its secret, which cannot be had again. `limit` is as app/limit.py reads it.

        Raises KeyRefused: a name that is none or that another key bears, no scopes, or no limit.
        """
        scopes = tuple(sorted(set(scopes)))
        if not (1 <= len(name) <= _LONGEST_NAME and name.isprintable() and name.strip() == name):
            raise KeyRefused(f"a name has 1 to {_LONGEST_NAME} printable characters, and no spaces around them")
        if not scopes:
            raise KeyRefused("a key without any scope would open nothing")
        if limit is not None:
            try:
                parse_limit(limit)
            except ValueError as error:
                raise KeyRefused(str(error)) from None
        async with self._redis.pipeline() as pipeline:
            while True:
                await pipeline.watch(keys.API_KEYS)
                known = await self.list()
                if any(key.name == name and key.revoked_at is None for key in known):
                    raise KeyRefused(f"there is a key named {name!r} already")
                key_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
                if any(key.id == key_id for key in known):
                    continue
                secret = f"wl_{key_id}_{secrets.token_urlsafe(32)}"
                record: dict[Any, bytes] = {
                    b"id": key_id.encode(),
                    b"name": name.encode(),
                    b"scopes": " ".join(scopes).encode(),
                    b"created": _now(),
                }
                if limit is not None:
                    record[b"limit"] = limit.encode()
                digest = _digest(secret)
                pipeline.multi()  # type: ignore[no-untyped-call]
                pipeline.hset(keys.api_key(digest), mapping=record)
                pipeline.hset(keys.API_KEYS, key_id, digest)
                try:
                    await pipeline.execute()
                except WatchError:  # another key was made meanwhile, perhaps of that name
                    continue
                return _key(record), secret

    async def find(self, secret: str) -> ApiKey | None:
        """The key with that secret, unless it was revoked."""
        if not _SECRET.fullmatch(secret):
            return None
        record = await self._read(_digest(secret))
        return _key(record) if record and b"revoked" not in record else None

    async def list(self) -> list[ApiKey]:
        """All keys that ever were, the oldest first."""
        digests = cast(dict[bytes, bytes], await self._redis.hgetall(keys.API_KEYS))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for digest in digests.values():
                pipeline.hgetall(keys.api_key(digest.decode()))
            records = cast(list[dict[bytes, bytes]], await pipeline.execute())
        return sorted((_key(record) for record in records), key=lambda key: (key.created_at, key.id))

    async def revoke(self, id_or_name: str) -> ApiKey | None:
        """Revoke the key of that id, or else the live one of that name; None if there is none.

        No request that begins after this returns is let in with it. Revoking it again changes nothing.
        """
        known = await self.list()
        named = [key for key in known if key.name == id_or_name and key.revoked_at is None]
        for key in [key for key in known if key.id == id_or_name] or named:
            digest = cast(bytes, await self._redis.hget(keys.API_KEYS, key.id)).decode()
            await self._redis.hsetnx(keys.api_key(digest), "revoked", _now())
            return _key(await self._read(digest))
        return None

    async def _read(self, digest: str) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], await self._redis.hgetall(keys.api_key(digest)))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> bytes:
    return str(int(time.time() * 1000)).encode()


def _key(record: dict[bytes, bytes]) -> ApiKey:
    return ApiKey(
        id=record[b"id"].decode(),
        name=record[b"name"].decode(),
        scopes=tuple(Scope(scope) for scope in record[b"scopes"].decode().split()),
        limit=record[b"limit"].decode() if b"limit" in record else None,
        created_at=_moment(record[b"created"]),
        revoked_at=_moment(record[b"revoked"]) if b"revoked" in record else None,
    )


def _moment(milliseconds: bytes) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
