"""Where a URL that a stranger gave leads, and whether we may go there.

In: URLs, and the addresses that a name server answered for their hosts; out: a Destination, or AddressRefused. Knows no
network itself: whoever connects must have every address admitted here first, and connect to no other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from pydantic import ValidationError
from pydantic_core import Url

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_MOST_CHARACTERS: Final = 2048
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# All that IANA has given out for hosts. Mapped and compatible IPv4, NAT64, unique local, link-local and multicast
# addresses lie elsewhere, and so will whatever else is not for us.
_UNICAST_V6: Final = IPv6Network("2000::/3")
# What Python's `is_global` lets pass, in some releases at least.
_NOT_PUBLIC: Final = (
    IPv4Network("168.63.129.16/32"),  # Azure's own services, seen from inside
    IPv4Network("192.0.0.0/24"),  # IETF protocols; Oracle's metadata
    IPv4Network("192.88.99.0/24"),  # relays to 6to4
    IPv6Network("2001::/23"),  # IETF protocols: Teredo, benchmarking, ORCHID
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("2002::/16"),  # 6to4: an IPv4 address inside
    IPv6Network("3fff::/20"),  # documentation
)


class AddressRefused(Exception):
    """We do not go there; the text is one sentence that may be shown to whoever gave the URL."""


@dataclass(frozen=True, slots=True)
class Destination:
    """What a URL says. `host` is a name in ASCII, or an IP address without brackets; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def address(self) -> IPAddress | None:
        """The host, where it is an IP address or needs no name server."""
        if self.host == "localhost":  # RFC 6761: not a question to ask the network
            return IPv4Address("127.0.0.1")
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Host and port, as the header `Host` wants them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class AddressRules:
    """Decides which URLs and addresses are admitted: public ones on the usual ports, and `networks` on any port."""

    def __init__(self, networks: Sequence[IPNetwork] = (), https_only: bool = False) -> None:
        self._networks = networks
        self._https_only = https_only

    def read(self, url: str) -> Destination:
        """Where `url` leads, checked as far as that goes without a name server. Raises AddressRefused."""
        destination = self._parse(url)
        if destination.address:
            self.admit(destination, [destination.address])
        elif not self._networks:
            _check_port(destination)
        return destination

    def admit(self, destination: Destination, addresses: Iterable[IPAddress]) -> None:
        """Raises AddressRefused unless every one of `addresses`, those of the destination's host, may be reached."""
        for address in addresses:
            if any(address in network for network in self._networks):
                continue
            _check_port(destination)
            if not _is_public(address):
                raise AddressRefused("the URL does not lead to a public address")

    def _parse(self, url: str) -> Destination:
        if len(url) > _MOST_CHARACTERS:
            raise AddressRefused(f"the URL is longer than {_MOST_CHARACTERS} characters")
        try:
            # The URL Standard of the browsers: 2130706433, 0x7f.1 and 127.1 are addresses to it as well.
            parsed = Url(url)
        except ValidationError:
            raise AddressRefused("this is not a URL") from None
        schemes = ["https"] if self._https_only else ["https", "http"]
        if parsed.scheme not in schemes or not parsed.host:
            raise AddressRefused(f"the URL must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        if parsed.username or parsed.password:
            raise AddressRefused("the URL must not contain a user name or password")
        return Destination(
            scheme=parsed.scheme,
            host=parsed.host.strip("[]").removesuffix("."),
            port=_DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port,
            target=(parsed.path or "/") + (f"?{parsed.query}" if parsed.query else ""),
        )


def _check_port(destination: Destination) -> None:
    if destination.port not in _DEFAULT_PORTS.values():
        raise AddressRefused("the URL must be on port 80 or 443")


def _is_public(address: IPAddress) -> bool:
    if address.version == 6 and address not in _UNICAST_V6:
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_PUBLIC)
