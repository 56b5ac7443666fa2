"""The HTTP client for URLs that strangers gave: it goes to public addresses only, and takes no more than is allowed.

In: URLs; out: files and status codes, or AddressRefused and FetchFailed, which tell the stranger why and nothing about
our network. The host is resolved once, every address it has is checked, and the connection goes to one of those: a
name server that answers otherwise a moment later is not asked again. Redirects are not followed, proxies of the
environment are not used, cookies are not kept. It must not know what the files are.
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
    """The server did not give what was asked for; `reason` is one sentence that may be shown to the URL's giver."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FileTooLarge(FetchFailed):
    """The server has more bytes than may be taken."""


class Outbound:
    """A client without memory: each request has a connection of its own."""

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
        """Connects to nothing yet.

        `networks` may be reached although they are not public; `connect_seconds` is for the name servers and for each
        address tried, `total_seconds` for all of a request; `resolver` and `trust` are the system's by default.
        """
        self.total_seconds = total_seconds
        self._rules = AddressRules(networks, https_only)
        self._connect_seconds = connect_seconds
        self._resolver = resolver
        self._trust = trust or ssl.create_default_context()
        self._agent = f"Wordlight/{version('wordlight')}"

    def check(self, url: str) -> None:
        """Raises AddressRefused for a URL that would be refused whatever a name server says."""
        self._rules.read(url)

    async def fetch(self, url: str, max_bytes: int) -> BinaryIO:
        """The file at `url`, which the caller closes. Raises AddressRefused, FetchFailed, FileTooLarge."""
        with ExitStack() as undo:
            file = undo.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES))
            # Nothing is decompressed here: bytes that were counted stay as many.
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
        """The status code of the answer, redirects among them; its body is not read.

        Raises AddressRefused and FetchFailed.
        """
        async with self._exchange("POST", url, headers, body) as response:
            return response.status

    @asynccontextmanager
    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[httpcore2.Response]:
        """Send the request, have the response read, and turn everything that goes wrong into FetchFailed."""
        destination = self._rules.read(url)
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
                raise FetchFailed("the server's certificate is not to be trusted") from None
            raise FetchFailed("the server could not be reached") from None
        except httpcore2.NetworkError:
            raise FetchFailed("the connection broke off") from None
        except httpcore2.ProtocolError:
            raise FetchFailed("the server's answer is not proper HTTP, or was cut off") from None

    async def _connection(self, destination: Destination) -> httpcore2.AsyncHTTPConnection:
        """A connection, not made yet, that can only go to addresses that were admitted."""
        addresses = [destination.address] if destination.address else await self._resolve(destination.host)
        self._rules.admit(destination, addresses)
        origin = httpcore2.Origin(destination.scheme.encode(), destination.host.encode(), destination.port)
        return httpcore2.AsyncHTTPConnection(origin, ssl_context=self._trust, network_backend=_Pinned(addresses))

    async def _resolve(self, host: str) -> list[IPAddress]:
        """All addresses of the host, IPv4 first: where there is no IPv4, trying it fails at once."""
        try:
            # Made anew, so that it knows of changes. It asks only name servers, and of no search domain.
            resolver = self._resolver or Resolver()
            answers = await resolver.resolve_name(f"{host}.", lifetime=self._connect_seconds)
        except DNSException:
            raise FetchFailed("the host's name could not be resolved") from None
        return sorted(map(ip_address, answers.addresses()), key=lambda address: address.version)


class _Pinned(httpcore2.AnyIOBackend):
    """Connects to the first of the given addresses that answers, whatever host it is asked for."""

    def __init__(self, addresses: Sequence[IPAddress]) -> None:
        self._addresses = addresses

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - it has been resolved
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
    """Raises FetchFailed for what is known before the body comes."""
    status = response.status
    if 300 <= status < 400:
        raise FetchFailed(f"the server answered {status}, a redirect: give the URL that it leads to")
    if status != HTTPStatus.OK:
        raise FetchFailed(f"the server answered {status}")
    headers = {name.lower(): value.strip().lower() for name, value in response.headers}
    if headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
        raise FetchFailed("the server compressed its answer although it was asked not to")
    if int(headers.get(b"content-length", b"0")) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> FileTooLarge:
    return FileTooLarge(f"the file is larger than {max_bytes:,} bytes")
