"""Where the queue server is, as REDIS_URL says it. In: a URL; out: an `Address`. It connects to nothing.

    redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER]                                   one server
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/NAME[/NUMBER]    the primary that Sentinels name
    redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]                   a cluster, by some of its nodes
    unix://[[USER]:PASSWORD@]PATH[?db=NUMBER]                                        one server here

`rediss` in place of `redis` is TLS. What is refused is never quoted: it may hold a piece of the password.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, unquote

FORMS = (
    "not a URL of the form redis://[[USER]:PASSWORD@]HOST:PORT/NUMBER (rediss:// for TLS), unix://PATH, "
    "redis+sentinel://HOST:PORT,HOST:PORT/NAME or redis+cluster://HOST:PORT,HOST:PORT"
)
_SCHEME = re.compile(r"redis(?P<tls>s?)(\+(?P<kind>sentinel|cluster))?")
# Hosts and ports, IPv6 addresses in brackets.
_NODE = re.compile(r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[\w.-]+))(?::(?P<port>\d{1,5}))?")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINELS_OWN = ("sentinel_username", "sentinel_password")


class Kind(StrEnum):
    """What stands at an address."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server is known, and we to it: PEM files. Without a CA file, the authorities of the system are good."""

    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    check_hostname: bool = True


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose rights a connection has; nobody's in particular without a password."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """A queue server. Of `nodes` (host and port), `SERVER` has one, or none and a `path`."""

    kind: Kind
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""  # what the Sentinels call it
    database: int = 0
    credentials: Credentials = Credentials()
    sentinel_credentials: Credentials = Credentials()
    tls: Tls | None = None


def parse_address(url: str) -> Address:
    """Raises ValueError, whose message is one line without any piece of the URL."""
    scheme, separator, rest = url.partition("://")
    form = _SCHEME.fullmatch(scheme)
    if not separator or "#" in rest or not (form or scheme == "unix"):
        raise ValueError(FORMS)
    rest, _, query = rest.partition("?")
    if form is None:
        return _unix(rest, dict(parse_qsl(query, keep_blank_values=True)))
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    kind = Kind(form["kind"] or Kind.SERVER)
    place, _, path = rest.partition("/")
    user, _, hosts = place.rpartition("@")
    nodes = tuple(_node(host, 26379 if kind is Kind.SENTINEL else 6379) for host in hosts.split(","))
    if kind is Kind.SERVER and len(nodes) > 1:
        raise ValueError("several hosts are written redis+sentinel://... or redis+cluster://...")
    service = ""
    if kind is Kind.SENTINEL:
        service, _, path = path.partition("/")
        if not service:
            raise ValueError("the Sentinels' name of the service is missing: redis+sentinel://HOST:PORT,HOST:PORT/NAME")
    sentinels_own = [parameters.pop(name, None) for name in _SENTINELS_OWN] if kind is Kind.SENTINEL else []
    database = _database(parameters.pop("db", path))
    if kind is Kind.CLUSTER and database:
        raise ValueError("a cluster has no database but number 0")
    return Address(
        kind=kind,
        nodes=nodes,
        service=unquote(service),
        database=database,
        credentials=_credentials(user),
        sentinel_credentials=Credentials(*sentinels_own),
        tls=_tls(parameters, secure=bool(form["tls"])),
    )


def hide_secrets(url: str) -> str:
    """A URL that `parse_address` takes, to be shown: `***` stands for a user and a password, and files are left out."""
    parse_address(url)
    scheme, _, rest = url.partition("://")
    user, at, place = rest.partition("?")[0].rpartition("@")
    return f"{scheme}://{'***@' if at and '/' not in user else user + at}{place}"


def _unix(rest: str, parameters: dict[str, str]) -> Address:
    user, _, path = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    if not path.startswith("/"):
        raise ValueError(FORMS)
    database = _database(parameters.pop("db", ""))
    _nothing_more(parameters)
    return Address(Kind.SERVER, path=unquote(path), database=database, credentials=_credentials(user))


def _node(text: str, port: int) -> tuple[str, int]:
    found = _NODE.fullmatch(text)
    if found is None or not 0 < int(found["port"] or port) < 65536:
        raise ValueError(f"{FORMS}; special characters of a password are percent-encoded")
    return found["bracketed"] or found["host"], int(found["port"] or port)


def _credentials(user: str) -> Credentials:
    name, _, password = user.partition(":")
    if name and not password:
        raise ValueError("a user needs a password: redis://USER:PASSWORD@HOST:PORT/NUMBER")
    return Credentials(unquote(name) or None, unquote(password) or None)


def _database(text: str) -> int:
    if not re.fullmatch(r"\d{0,5}", text, re.ASCII):
        raise ValueError("the database, after the last slash, is a number")
    return int(text or 0)


def _tls(parameters: dict[str, str], *, secure: bool) -> Tls | None:
    if not secure:
        _nothing_more(parameters)
        return None
    authority, certificate, key = (parameters.pop(name, None) for name in _FILES)
    for name, path in zip(_FILES, (authority, certificate, key), strict=True):
        if path is not None and not Path(path).is_file():
            raise ValueError(f"{name} names no file that is there")
    if key and not certificate:
        raise ValueError("ssl_keyfile goes with an ssl_certfile")
    check = parameters.pop("ssl_check_hostname", "true").lower()
    if check not in ("true", "false"):
        raise ValueError("ssl_check_hostname is true or false")
    _nothing_more(parameters)
    return Tls(authority, certificate, key, check_hostname=check == "true")


def _nothing_more(parameters: dict[str, str]) -> None:
    if parameters:
        raise ValueError(
            "an unknown parameter after the question mark: there are db; with TLS (rediss) "
            f"{', '.join(_FILES)}, ssl_check_hostname; with Sentinels {', '.join(_SENTINELS_OWN)}"
        )
