"""`wordlight keys`: makes, lists and revokes API keys, on the queue server that the service uses.

In: arguments; out: lines on standard output, the secret of a new key alone on its own. What people need to read
besides goes to standard error.
"""

import argparse
import asyncio
import json
import sys
from datetime import datetime

from app.access.api_keys import DEFAULT_SCOPES, ApiKey, ApiKeys, KeyRefused, Scope
from jobs.connection import connect_async
from wordlight.home import HomeSettings, queue_url


def run(arguments: argparse.Namespace, settings: HomeSettings) -> None:
    """Do what is asked for. Raises KeyRefused, NoQueue and redis.exceptions.RedisError."""
    asyncio.run(_run(arguments, queue_url(settings)))


async def _run(arguments: argparse.Namespace, url: str) -> None:
    async with connect_async(url) as redis:
        keys = ApiKeys(redis)
        if arguments.action == "create":
            scopes = _scopes(arguments.scope) if arguments.scope else DEFAULT_SCOPES
            key, secret = await keys.create(arguments.name, scopes, arguments.limit)
            if arguments.json:
                print(json.dumps({**key.model_dump(mode="json"), "secret": secret}))
            else:
                print(secret, flush=True)
                print(_HOW_TO_USE.format(key=key), file=sys.stderr)
        elif arguments.action == "list":
            for line in _lines(await keys.list(), arguments.json):
                print(line)
        else:
            revoked = await keys.revoke(arguments.key)
            if revoked is None:
                raise KeyRefused(f"there is no key {arguments.key!r}")
            print(revoked.model_dump_json() if arguments.json else f"revoked {revoked.id} ({revoked.name})")


_HOW_TO_USE = """This is the key {key.id} ({key.name}). It is shown this once: keep it well.
A program sends it as   Authorization: Bearer KEY       (curl -H 'Authorization: Bearer KEY' ...)
A browser asks for it:  any user name, and the key as the password."""


def _scopes(names: list[str]) -> list[Scope]:
    try:
        return [Scope(name) for name in names]
    except ValueError as error:
        raise KeyRefused(f"{error}: there are {', '.join(Scope)}") from None


def _lines(keys: list[ApiKey], as_json: bool) -> list[str]:
    if as_json:
        return [key.model_dump_json() for key in keys]
    rows = [("ID", "NAME", "SCOPES", "LIMIT", "CREATED", "REVOKED")]
    for key in keys:
        row = (key.id, key.name, ",".join(key.scopes), key.limit or "-", _day(key.created_at), _day(key.revoked_at))
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _day(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else "-"
