"""API keys: create, find, list and revoke them.

Redis stores the SHA-256 of a secret, never the secret. A secret has 256 random bits, so a fast hash is as safe as the
slow ones that passwords need.
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

from app.settings import parse_limit
from jobs import keys

_ID_CHARACTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 8
_SECRET = re.compile(rf"wl_[{_ID_CHARACTERS}]{{{_ID_LENGTH}}}_[A-Za-z0-9_-]{{43}}")
_LONGEST_NAME = 64


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"  # read jobs, the page and the API documentation
    WRITE = "write"  # submit pictures, cancel and delete jobs
    METRICS = "metrics"


DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)


class KeyRefused(Exception):
    """The key cannot be created. The message is one line."""


class ApiKey(BaseModel):
    """A stored key, without its secret."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    scopes: tuple[Scope, ...]
    limit: str | None
    created_at: datetime
    revoked_at: datetime | None


class ApiKeys:
    """The keys of one service. Every method raises redis.exceptions.RedisError if Redis fails."""

    def __init__(self, redis: aioredis.Redis) -> None:
        self._redis = redis

    async def create(
        self, name: str, scopes: Iterable[Scope] = DEFAULT_SCOPES, limit: str | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key and return it with its secret, which cannot be read again. `limit` is a rate limit.

        Raises KeyRefused for an invalid name, a name in use, an empty set of scopes, or an invalid limit.
        """
        scopes = tuple(sorted(set(scopes)))
        if not (1 <= len(name) <= _LONGEST_NAME and name.isprintable() and name.strip() == name):
            raise KeyRefused(f"a name has 1 to {_LONGEST_NAME} printable characters and no spaces at its ends")
        if not scopes:
            raise KeyRefused("a key needs at least one scope")
        if limit is not None:
            try:
                parse_limit(limit)
            except ValueError as error:
                raise KeyRefused(str(error)) from None
        async with self._redis.pipeline() as pipeline:
            while True:
                await pipeline.watch(keys.API_KEYS)
                existing = await self.list()
                if any(key.name == name and key.revoked_at is None for key in existing):
                    raise KeyRefused(f"a key named {name!r} exists already")
                key_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
                if any(key.id == key_id for key in existing):
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
                except WatchError:  # another key was created meanwhile, perhaps with this name
                    continue
                return _key(record), secret

    async def find(self, secret: str) -> ApiKey | None:
        """Find the key with this secret; None if there is none or it was revoked."""
        if not _SECRET.fullmatch(secret):
            return None
        record = await self._read(_digest(secret))
        return _key(record) if record and b"revoked" not in record else None

    async def list(self) -> list[ApiKey]:
        """List all keys, revoked ones included, the oldest first."""
        digests = cast(dict[bytes, bytes], await self._redis.hgetall(keys.API_KEYS))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for digest in digests.values():
                pipeline.hgetall(keys.api_key(digest.decode()))
            records = cast(list[dict[bytes, bytes]], await pipeline.execute())
        return sorted((_key(record) for record in records), key=lambda key: (key.created_at, key.id))

    async def revoke(self, id_or_name: str) -> ApiKey | None:
        """Revoke a key by id, or the active one by name; None if there is none. It stops working immediately.

        Revoking a key again changes nothing.
        """
        existing = await self.list()
        named = [key for key in existing if key.name == id_or_name and key.revoked_at is None]
        for key in [key for key in existing if key.id == id_or_name] or named:
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
