"""HTTP client for URLs from untrusted clients. It connects to public addresses only and bounds what it downloads.

The client resolves a host once, checks every address, and connects to one of the checked addresses, so a second DNS
answer cannot redirect it (DNS rebinding). It follows no redirects, uses no proxies from the environment and keeps no
cookies. AddressRefused and FetchFailed carry messages that reveal nothing about our own network.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from ipaddress import ip_address
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

import httpcore2
from dns.asyncresolver import Resolver
from dns.exception import DNSException

from app.outbound.address_rules import AddressRules, Destination, IPAddress, IPNetwork

_IN_MEMORY_BYTES: Final = 1024 * 1024


class FetchFailed(Exception):
    """The server did not return the file. `reason` is one sentence that is safe to show to the client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FileTooLarge(FetchFailed):
    """The file has more bytes than allowed."""


class OutboundClient:
    """A stateless client. Each request opens a connection of its own."""

    def __init__(
        self,
        networks: Sequence[IPNetwork] = (),
        *,
        https_only: bool = False,
        connect_seconds: float = 5,
        total_seconds: float = 20,
        resolver: Resolver | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """Create a client; it does not connect yet.

        `networks` are allowed although they are not public. `connect_seconds` bounds the DNS lookup and each connection
        attempt, `total_seconds` a whole request. `resolver` and `trust` default to the system's.
        """
        self.total_seconds = total_seconds
        self._rules = AddressRules(networks, https_only)
        self._connect_seconds = connect_seconds
        self._resolver = resolver
        self._trust = trust or ssl.create_default_context()
        self._agent = f"Wordlight/{version('wordlight')}"

    def check(self, url: str) -> None:
        """Raise AddressRefused for a URL that is refused whatever addresses its host has."""
        self._rules.parse(url)

    async def fetch(self, url: str, max_bytes: int) -> BinaryIO:
        """Download the file at `url`; the caller closes it. Raises AddressRefused, FetchFailed or FileTooLarge."""
        with ExitStack() as undo:
            file = undo.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES))
            # Without compression, the bytes that are counted are the bytes that are stored.
            async with self._exchange("GET", url, {"Accept": "image/*", "Accept-Encoding": "identity"}) as response:
                _check_response(response, max_bytes)
                received = 0
                async for chunk in response.aiter_stream():
                    received += len(chunk)
                    if received > max_bytes:
                        raise _too_large(max_bytes)
                    file.write(chunk)
            file.seek(0)
            undo.pop_all()
            return cast(BinaryIO, file)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send a POST request and return the status code, without reading the response body or following redirects.

        Raises AddressRefused or FetchFailed.
        """
        async with self._exchange("POST", url, headers, body) as response:
            return response.status

    @asynccontextmanager
    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[httpcore2.Response]:
        """Send a request and yield its response. Raises FetchFailed for every error of network and server."""
        destination = self._rules.parse(url)
        all_headers = {"Host": destination.authority, "User-Agent": self._agent, "Connection": "close", **headers}
        try:
            async with (
                asyncio.timeout(self.total_seconds),
                await self._connection(destination) as connection,
                connection.stream(
                    method,
                    httpcore2.URL(
                        scheme=destination.scheme,
                        host=destination.host,
                        port=destination.port,
                        target=destination.target,
                    ),
                    headers=list(all_headers.items()),
                    content=body,
                    extensions={"timeout": {"connect": self._connect_seconds}},
                ) as response,
            ):
                yield response
        except TimeoutError:
            raise FetchFailed(f"the server took longer than {self.total_seconds:g} s") from None
        except httpcore2.ConnectTimeout:
            raise FetchFailed("the server could not be reached in time") from None
        except httpcore2.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise FetchFailed("the server's certificate is not trusted") from None
            raise FetchFailed("the server could not be reached") from None
        except httpcore2.NetworkError:
            raise FetchFailed("the connection was lost") from None
        except httpcore2.ProtocolError:
            raise FetchFailed("the server's answer is not valid HTTP or is incomplete") from None

    async def _connection(self, destination: Destination) -> httpcore2.AsyncHTTPConnection:
        """Create a connection, not opened yet, that can only go to checked addresses."""
        addresses = [destination.address] if destination.address else await self._resolve(destination.host)
        self._rules.check(destination, addresses)
        origin = httpcore2.Origin(destination.scheme.encode(), destination.host.encode(), destination.port)
        return httpcore2.AsyncHTTPConnection(origin, ssl_context=self._trust, network_backend=_PinnedBackend(addresses))

    async def _resolve(self, host: str) -> list[IPAddress]:
        """Resolve a host to all of its addresses, IPv4 first: without an IPv4 network, that attempt fails at once."""
        try:
            # A new resolver each time sees changes of resolv.conf. The final dot prevents search domains.
            resolver = self._resolver or Resolver()
            answers = await resolver.resolve_name(f"{host}.", lifetime=self._connect_seconds)
        except DNSException:
            raise FetchFailed("the host's name could not be resolved") from None
        return sorted(map(ip_address, answers.addresses()), key=lambda address: address.version)


class _PinnedBackend(httpcore2.AnyIOBackend):
    """Connects to the first of the given addresses that accepts, whatever host is requested."""

    def __init__(self, addresses: Sequence[IPAddress]) -> None:
        self._addresses = addresses

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - already resolved
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        *others, last = map(str, self._addresses)
        for address in others:
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await super().connect_tcp(last, port, timeout, local_address, socket_options)


def _check_response(response: httpcore2.Response, max_bytes: int) -> None:
    """Check status and headers before the body is read. Raises FetchFailed."""
    status = response.status
    if 300 <= status < 400:
        raise FetchFailed(f"the server answered {status}, a redirect: send the URL that it points to")
    if status != HTTPStatus.OK:
        raise FetchFailed(f"the server answered {status}")
    headers = {name.lower(): value.strip().lower() for name, value in response.headers}
    if headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
        raise FetchFailed("the server compressed its answer although the request forbids it")
    if int(headers.get(b"content-length", b"0")) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> FileTooLarge:
    return FileTooLarge(f"the file is larger than {max_bytes:,} bytes")
