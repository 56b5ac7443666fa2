"""Servers on loopback that misbehave on request: HTTP, with or without TLS, and DNS."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from dns.asyncresolver import Resolver


@dataclass(frozen=True)
class Request:
    """A received request. Header names are in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A running server, and the requests that it got."""

    host: str
    port: int
    requests: asyncio.Queue[Request] = field(default_factory=asyncio.Queue)

    def url(self, path: str = "/", scheme: str = "http", host: str = "") -> str:
        return f"{scheme}://{host or self.host}:{self.port}{path}"


def answering(*parts: bytes) -> Answer:
    """Send these bytes and close the connection."""

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


def hanging_after(*parts: bytes) -> Answer:
    """Send these bytes, then hang."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await answering(*parts)(request, writer)
        await asyncio.Event().wait()

    return answer


def status(code: int, *headers: str) -> Answer:
    """An empty answer with that status."""
    lines = [f"HTTP/1.1 {code} Whatever", "Content-Length: 0", *headers, "", ""]
    return answering("\r\n".join(lines).encode())


def in_turn(*answers: Answer) -> Answer:
    """Answer each request with the next of `answers`."""
    left = list(answers)

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await left.pop(0)(request, writer)

    return answer


@asynccontextmanager
async def serving(
    answer: Answer, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Run a server that gives `answer` to every request. At the end, it closes hanging connections."""
    serving_now: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        serving_now.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                request = await _read(reader)
                server.requests.put_nowait(request)
                await answer(request, writer)
        finally:
            serving_now.discard(task)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    listening = await asyncio.start_server(serve, host, port, ssl=tls)
    server = Server(host, listening.sockets[0].getsockname()[1])
    async with listening:
        yield server
        for task in list(serving_now):
            task.cancel()
        await asyncio.gather(*serving_now)


async def _read(reader: asyncio.StreamReader) -> Request:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (header.partition(":") for header in lines)}
    return Request(line, headers, await reader.readexactly(int(headers.get("content-length", 0))))


class NameServer(asyncio.DatagramProtocol):
    """Answers queries for a name with its lists of addresses in turn, and repeats the last one."""

    def __init__(self, names: dict[str, list[list[str]]]) -> None:
        self._names = names
        self._transport: asyncio.DatagramTransport | None = None
        self.questions: list[tuple[str, str]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), question.rdtype
        self.questions.append((name, kind.name))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        rounds = self._names.get(name)
        if rounds is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            wanted = [text for text in rounds[0] if (":" in text) == (kind == dns.rdatatype.AAAA)]
            if wanted:
                response.answer.append(dns.rrset.from_text_list(question.name, 0, "IN", kind, wanted))
            if kind == dns.rdatatype.A and len(rounds) > 1:  # the second of the two queries for a name
                rounds.pop(0)
        assert self._transport
        self._transport.sendto(response.to_wire(), address)


@asynccontextmanager
async def naming(names: dict[str, list[list[str]]]) -> AsyncIterator[tuple[NameServer, Resolver]]:
    """Run a name server; yield it and a resolver that uses it."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(names), ("127.0.0.1", 0))
    resolver = Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    try:
        yield server, resolver
    finally:
        transport.close()
