"""The client for untrusted URLs against misbehaving servers on loopback."""

import asyncio
import ssl
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import trustme
from support.loopback import Answer, Request, answering, hanging_after, naming, serving, status

from app.outbound.address_rules import AddressRefused, AddressRules, Destination
from app.outbound.http_client import FetchFailed, FileTooLarge, OutboundClient

LOOPBACK = [ip_network("127.0.0.0/8")]
ONE_ADDRESS = [ip_network("127.0.0.1/32")]  # stands for the public internet; the rest of 127.0.0.0/8 is private
MOST = 3 * 1024 * 1024
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def client(**options: Any) -> OutboundClient:
    return OutboundClient(**{"networks": LOOPBACK, "total_seconds": 20, "connect_seconds": 5, **options})


async def fetched(outbound: OutboundClient, url: str, max_bytes: int = MOST) -> bytes:
    with await outbound.fetch(url, max_bytes) as file:
        return file.read()


def fetch_from(answer: Answer, **options: Any) -> bytes:
    """Fetch a file from a server that sends `answer`."""

    async def act() -> bytes:
        async with serving(answer) as server:
            return await fetched(client(**options), server.url())

    return asyncio.run(act())


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://017700000001/",
        "http://127.0.0.1./",
        "http://127。0。0。1/",
        "http://①②⑦.⓪.⓪.①/",
        "http://%31%32%37.0.0.1/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[64:ff9b::8.8.8.8]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:7f00:1::]/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://ⓛocalhost/",
        "http://0/",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0xa9fea9fe/",
        "http://168.63.129.16/",
        "http://100.64.0.1/",
        "http://100.100.100.200/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://192.0.0.192/",
        "http://192.0.2.1/",
        "http://192.88.99.1/",
        "http://198.18.0.1/",
        "http://198.51.100.1/",
        "http://203.0.113.1/",
        "http://224.0.0.1/",
        "http://240.0.0.1/",
        "http://255.255.255.255/",
        "http://[fd00::1]/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[100::1]/",
        "http://[2001:db8::1]/",
        "http://[2001:2::1]/",
        "http://[3fff::1]/",
        "http://[5f00::1]/",
        "http://[4000::1]/",
    ],
)
def test_private_addresses_are_refused_before_connecting(url: str) -> None:
    with pytest.raises(AddressRefused, match="public address"):
        OutboundClient().check(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "photos.test/cat.jpg",
        "//photos.test/",
        "/etc/passwd",
        "file:///etc/passwd",
        "gopher://photos.test/",
        "ftp://photos.test/",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "unix:///run/docker.sock",
        "http://user@photos.test/",
        "http://user:secret@photos.test/",
        "http://:secret@photos.test/",
        "http://8.8.8.8 &@photos.test#@10.0.0.1/",
        "http://photos.test:22/",
        "http://photos.test:0/",
        "http://photos.test:65536/",
        "http://8.8.8.8:6379/",
        "http://[fe80::1%25eth0]/",
        "http://",
        "https://photos.test/" + 2048 * "a",
    ],
)
def test_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        OutboundClient().check(url)


def test_https_only_refuses_http() -> None:
    OutboundClient(https_only=True).check("https://photos.test/")
    with pytest.raises(AddressRefused, match="https://"):
        OutboundClient(https_only=True).check("http://photos.test/")


@pytest.mark.parametrize(
    "url",
    ["http://photos.test", "HTTPS://photos.test:443/a?b=c#d", "http://8.8.8.8/", "https://[2606:4700:4700::1111]:80/"],
)
def test_public_urls_pass(url: str) -> None:
    OutboundClient().check(url)
    AddressRules().check(Destination("http", "photos.test", 80, "/"), [ip_address("8.8.8.8")])


def test_other_ports_are_allowed_for_listed_networks_only() -> None:
    rules = AddressRules(LOOPBACK)
    destination = rules.parse("http://photos.test:8080/")
    rules.check(destination, [ip_address("127.0.0.1")])
    with pytest.raises(AddressRefused, match="port"):
        rules.check(destination, [ip_address("127.0.0.1"), ip_address("8.8.8.8")])
    with pytest.raises(AddressRefused):
        rules.parse("http://[::ffff:127.0.0.1]:8080/")


def test_a_file_is_fetched_with_a_plain_request(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 5\r\n\r\nhello"

    async def act() -> None:
        async with serving(answering(cookie)) as server:
            outbound = client()
            for _ in range(2):
                assert await fetched(outbound, server.url("/ä b?q=é#part")) == b"hello"
                request = server.requests.get_nowait()
                assert request.line == "GET /%C3%A4%20b?q=%C3%A9 HTTP/1.1"
                assert request.headers["host"] == f"127.0.0.1:{server.port}"
                assert request.headers["accept-encoding"] == "identity"
                assert "cookie" not in request.headers

    asyncio.run(act())


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), b"hello"),
        (answering(b"HTTP/1.0 200 OK\r\n\r\n", b"hel", b"lo"), b"hello"),
        (answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + HELLO), b"hello"),
        (answering(HELLO + b", and more than was announced"), b"hello"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\n", MOST * b"x"), MOST * b"x"),
    ],
    ids=["chunked", "until the end", "early hints", "more than announced", "as large as may be"],
)
def test_responses_that_are_accepted(answer: Answer, body: bytes) -> None:
    assert fetch_from(answer) == body


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(301, "Location: http://127.0.0.1/"), "redirect"),
        (status(308, "Location: /elsewhere"), "redirect"),
        (status(404), "404"),
        (status(500), "500"),
        (status(206), "206"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"), "compressed"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), "incomplete"),
        (answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"), "incomplete"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"), "not valid HTTP"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), "not valid HTTP"),
        (answering(b"HTTP/1.1 200 OK\r\n", *(200 * [b"X-Header: " + 1000 * b"x" + b"\r\n"]), b"\r\n"), "not valid"),
        (answering(b"HTTP/1.1 200 OK\r\nX-Header: ", 200 * 1024 * b"x"), "not valid HTTP"),
        (answering(b"SSH-2.0-OpenSSH_9.9\r\n"), "not valid HTTP"),
        (answering(), "not valid HTTP"),
    ],
)
def test_refused_responses_are_explained_in_a_sentence(answer: Answer, reason: str) -> None:
    with pytest.raises(FetchFailed, match=reason) as failed:
        fetch_from(answer)
    assert "127.0.0.1" not in failed.value.reason


@pytest.mark.parametrize(
    "answer",
    [
        hanging_after(b"HTTP/1.1 200 OK\r\nContent-Length: 3145729\r\n\r\n"),
        hanging_after(b"HTTP/1.0 200 OK\r\n\r\n", (MOST + 1) * b"x"),
        hanging_after(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 4096 * (b"400\r\n" + 1024 * b"x" + b"\r\n")
        ),
    ],
    ids=["announced", "not announced", "chunked"],
)
def test_an_oversized_download_is_aborted(answer: Answer) -> None:
    with pytest.raises(FileTooLarge, match="3,145,728 bytes"):
        fetch_from(answer)


async def trickle(_request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "answer",
    [hanging_after(), hanging_after(b"HTTP/1.1 200 OK\r\nX-"), hanging_after(HELLO[:-1]), trickle],
    ids=["silent", "in the headers", "in the body", "a trickle"],
)
def test_a_slow_server_times_out(answer: Answer) -> None:
    with pytest.raises(FetchFailed, match=r"longer than 0\.3 s"):
        fetch_from(answer, total_seconds=0.3)


def test_a_silent_tls_handshake_times_out() -> None:
    async def act() -> None:
        async with serving(hanging_after()) as server:
            await fetched(client(connect_seconds=0.3), server.url(scheme="https"))

    with pytest.raises(FetchFailed, match="could not be reached in time"):
        asyncio.run(act())


def test_post_returns_the_status_without_reading_the_body() -> None:
    async def act() -> None:
        for code in (200, 301, 500):
            head = f"HTTP/1.1 {code} Whatever\r\nContent-Length: 1000000\r\n\r\n".encode()
            async with serving(hanging_after(head)) as server:
                assert await client().post(server.url("/hook"), b"{}", {"Content-Type": "application/json"}) == code
                request = server.requests.get_nowait()
                assert request.line == "POST /hook HTTP/1.1"
                assert request.headers["content-type"] == "application/json"
                assert request.body == b"{}"

    asyncio.run(act())


def test_the_connection_uses_the_checked_addresses() -> None:
    """DNS rebinding: the name server gives another address to the second query."""

    async def act() -> None:
        async with (
            naming({"rebind.test": [["127.0.0.1"], ["127.0.0.2"]]}) as (names, resolver),
            serving(answering(HELLO)) as public,
            serving(answering(HELLO), "127.0.0.2", public.port) as private,
        ):
            outbound = client(networks=ONE_ADDRESS, resolver=resolver)
            assert await fetched(outbound, public.url(host="rebind.test")) == b"hello"
            assert names.questions == [("rebind.test", "AAAA"), ("rebind.test", "A")]
            assert public.requests.get_nowait().headers["host"] == f"rebind.test:{public.port}"
            with pytest.raises(AddressRefused) as refused:
                await fetched(outbound, public.url(host="rebind.test"))
            assert "127.0.0" not in str(refused.value)
            assert public.requests.empty()
            assert private.requests.empty()

    asyncio.run(act())


@pytest.mark.parametrize("other", ["10.0.0.1", "127.0.0.2", "::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::a00:1"])
def test_a_name_with_any_private_address_is_refused(other: str) -> None:
    async def act() -> None:
        async with (
            naming({"both.test": [["127.0.0.1", other]]}) as (_, resolver),
            serving(answering(HELLO)) as server,
        ):
            with pytest.raises(AddressRefused):
                await fetched(client(networks=ONE_ADDRESS, resolver=resolver), server.url(host="both.test"))
            assert server.requests.empty()

    asyncio.run(act())


def test_each_address_of_a_name_is_tried() -> None:
    async def act() -> None:
        async with naming({"many.test": [["127.0.0.3", "127.0.0.2", "127.0.0.1"]]}) as (_, resolver):
            async with serving(answering(HELLO)) as server:
                url = server.url(host="many.test")
                assert await fetched(client(resolver=resolver), url) == b"hello"
            with pytest.raises(FetchFailed, match="could not be reached"):
                await fetched(client(resolver=resolver), url)

    asyncio.run(act())


def test_unresolvable_names_fail() -> None:
    async def act() -> None:
        async with naming({"empty.test": [[]]}) as (names, resolver):
            for host in ("missing.test", "empty.test", "a..b", ".test", 64 * "a"):
                with pytest.raises(FetchFailed, match="could not be resolved"):
                    await fetched(client(resolver=resolver), f"http://{host}/")
            assert ("missing.test", "AAAA") in names.questions
            assert all(name.count(".") == 1 for name, _ in names.questions)  # no search domain was added

    asyncio.run(act())


def test_tls_is_verified_against_the_name_in_the_url() -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("photos.test").configure_cert(tls)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    async def act() -> None:
        names = {host: [["127.0.0.1"]] for host in ("photos.test", "other.test")}
        async with naming(names) as (_, resolver), serving(answering(HELLO), tls=tls) as server:
            url = server.url(scheme="https", host="photos.test")
            assert await fetched(client(resolver=resolver, trust=trust), url) == b"hello"
            for outbound, refused in [
                (client(resolver=resolver), url),
                (client(resolver=resolver, trust=trust), server.url(scheme="https", host="other.test")),
                (client(resolver=resolver, trust=trust), server.url(scheme="https")),
            ]:
                with pytest.raises(FetchFailed, match="certificate"):
                    await fetched(outbound, refused)
            assert server.requests.qsize() == 1

    asyncio.run(act())
