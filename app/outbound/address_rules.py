"""Which URLs and IP addresses the service may contact on behalf of a client.

Pure rules without network access: a client must check every resolved address here and connect to no other.
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
# The global unicast range of IANA. Mapped and compatible IPv4, NAT64, unique local, link-local and multicast addresses
# lie outside of it.
_UNICAST_V6: Final = IPv6Network("2000::/3")
# Networks that some Python releases count as global.
_NOT_PUBLIC: Final = (
    IPv4Network("168.63.129.16/32"),  # Azure's platform services
    IPv4Network("192.0.0.0/24"),  # IETF protocols; Oracle's metadata service
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv6Network("2001::/23"),  # IETF protocols: Teredo, benchmarking, ORCHID
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("2002::/16"),  # 6to4, which embeds an IPv4 address
    IPv6Network("3fff::/20"),  # documentation
)


class AddressRefused(Exception):
    """The service does not contact this URL. The message is one sentence that is safe to show to the client."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A parsed URL. `host` is an ASCII name or an IP address without brackets; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def address(self) -> IPAddress | None:
        """The host as an IP address, if it is one or is localhost; None if it needs a DNS lookup."""
        if self.host == "localhost":  # RFC 6761: never looked up
            return IPv4Address("127.0.0.1")
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Host and port, as in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class AddressRules:
    """Allows public addresses on ports 80 and 443, and the given networks on any port."""

    def __init__(self, networks: Sequence[IPNetwork] = (), https_only: bool = False) -> None:
        self._networks = networks
        self._https_only = https_only

    def parse(self, url: str) -> Destination:
        """Parse a URL and check everything that needs no DNS lookup. Raises AddressRefused."""
        destination = self._split(url)
        if destination.address:
            self.check(destination, [destination.address])
        elif not self._networks:
            _check_port(destination)
        return destination

    def check(self, destination: Destination, addresses: Iterable[IPAddress]) -> None:
        """Raise AddressRefused unless all addresses of the destination's host are allowed."""
        for address in addresses:
            if any(address in network for network in self._networks):
                continue
            _check_port(destination)
            if not _is_public(address):
                raise AddressRefused("the URL does not point to a public address")

    def _split(self, url: str) -> Destination:
        if len(url) > _MOST_CHARACTERS:
            raise AddressRefused(f"the URL is longer than {_MOST_CHARACTERS} characters")
        try:
            # Parses as browsers do (URL Standard): 2130706433, 0x7f.1 and 127.1 are IP addresses too.
            parsed = Url(url)
        except ValidationError:
            raise AddressRefused("this is not a valid URL") from None
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
        raise AddressRefused("the URL must use port 80 or 443")


def _is_public(address: IPAddress) -> bool:
    if address.version == 6 and address not in _UNICAST_V6:
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_PUBLIC)
