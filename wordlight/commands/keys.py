"""`wordlight keys`: creates, lists and revokes API keys on the service's queue server.

A new key's secret is the only text on standard output. Instructions for people go to standard error.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from wordlight.commands.configuration import read_settings
from wordlight.commands.options import AddCommand, add_json_option
from wordlight.terminal import fail

if TYPE_CHECKING:
    from app.access.api_keys import ApiKey, Scope

_USAGE = """This is the key {key.id} ({key.name}). Store it safely: it is not shown again.
Programs send it as    Authorization: Bearer KEY       (curl -H 'Authorization: Bearer KEY' ...)
Browsers ask for it:   any user name, and the key as the password."""


def add_keys(command: AddCommand) -> None:
    """Add the command."""
    keys = command("keys", _keys).add_subparsers(title="actions", required=True, metavar="ACTION", dest="action")
    create = keys.add_parser("create", help="create a key; its secret is printed once")
    create.add_argument("name", metavar="NAME", help="name of the key; no two valid keys share one")
    create.add_argument(
        "--scope", action="append", help="read, write or metrics; repeat for several (default: read and write)"
    )
    create.add_argument("--limit", help='pictures that it may send, such as "60/minute" or "5/second;1000/day"')
    listing = keys.add_parser("list", help="list all keys, including revoked ones")
    revoke = keys.add_parser("revoke", help="revoke a key; it stops working immediately")
    revoke.add_argument("key", metavar="ID", help="id or name of the key")
    for action in (create, listing, revoke):
        add_json_option(action)


def _keys(arguments: argparse.Namespace) -> int:
    """create, list and revoke API keys"""
    from redis.exceptions import RedisError

    from app.access.api_keys import KeyRefused
    from wordlight.queue_server import HomeSettings, NoQueue, queue_url

    try:
        asyncio.run(_run(arguments, queue_url(read_settings(HomeSettings))))
    except (KeyRefused, NoQueue, RedisError) as error:
        fail(str(error))
    return 0


async def _run(arguments: argparse.Namespace, url: str) -> None:
    """Run the action. Raises KeyRefused and RedisError."""
    from app.access.api_keys import DEFAULT_SCOPES, ApiKeys, KeyRefused
    from jobs.connection import connect_async

    async with connect_async(url) as redis:
        keys = ApiKeys(redis)
        if arguments.action == "create":
            scopes = _scopes(arguments.scope) if arguments.scope else DEFAULT_SCOPES
            key, secret = await keys.create(arguments.name, scopes, arguments.limit)
            if arguments.json:
                print(json.dumps({**key.model_dump(mode="json"), "secret": secret}))
            else:
                print(secret, flush=True)
                print(_USAGE.format(key=key), file=sys.stderr)
        elif arguments.action == "list":
            for line in _lines(await keys.list(), arguments.json):
                print(line)
        else:
            revoked = await keys.revoke(arguments.key)
            if revoked is None:
                raise KeyRefused(f"there is no key {arguments.key!r}")
            print(revoked.model_dump_json() if arguments.json else f"revoked {revoked.id} ({revoked.name})")


def _scopes(names: Sequence[str]) -> "list[Scope]":
    from app.access.api_keys import KeyRefused, Scope

    try:
        return [Scope(name) for name in names]
    except ValueError as error:
        raise KeyRefused(f"{error}: the scopes are {', '.join(Scope)}") from None


def _lines(keys: "Sequence[ApiKey]", as_json: bool) -> Iterator[str]:
    """Format keys as JSON lines or as a table."""
    if as_json:
        yield from (key.model_dump_json() for key in keys)
        return
    rows = [("ID", "NAME", "SCOPES", "LIMIT", "CREATED", "REVOKED")]
    for key in keys:
        dates = _date(key.created_at), _date(key.revoked_at)
        rows.append((key.id, key.name, ",".join(key.scopes), key.limit or "-", *dates))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield from ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _date(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else "-"
