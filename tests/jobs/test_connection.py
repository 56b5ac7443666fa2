"""REDIS_URL: valid forms, one-line errors without secrets, and how clients find a primary through Sentinels."""

import asyncio
import os
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError
from support.command import free_port, start_command
from support.queue_servers import Node, one_server

from jobs.connection import Address, connect, connect_async, parse_url
from jobs.settings import QueueSettings

NOBODY = {"username": None, "password": None}
ME = {"username": "me", "password": "pw"}
TLS = {
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_check_hostname": True,
    "ssl_min_version": ssl.TLSVersion.TLSv1_2,
}


def server(host: str, port: int = 6379, database: int = 0, login: dict[str, Any] = NOBODY, **tls: Any) -> Address:
    return Address(hosts=((host, port),), tls=bool(tls), options={"db": database} | login | tls)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://queue", server("queue")),
        ("redis://queue:7000/3", server("queue", 7000, 3)),
        ("redis://queue?db=3", server("queue", database=3)),
        ("redis://[::1]:7000/", server("::1", 7000)),
        ("redis://:p%40ss%2F@queue", server("queue", login={"username": None, "password": "p@ss/"})),
        ("redis://me:p:q@queue", server("queue", login={"username": "me", "password": "p:q"})),
        (
            "unix:///run/a@b/c%20d.sock?db=1",
            Address(path="/run/a@b/c d.sock", options={"db": 1} | NOBODY),
        ),
        ("unix://me:pw@/run/c.sock", Address(path="/run/c.sock", options={"db": 0} | ME)),
        ("rediss://queue", server("queue", **TLS)),
        (
            "rediss://queue?ssl_ca_certs=/dev/../proc/version&ssl_check_hostname=false",
            server("queue", **TLS | {"ssl_ca_certs": "/dev/../proc/version", "ssl_check_hostname": False}),
        ),
        (
            "redis+sentinel://me:pw@a,b:7000/main/2?sentinel_password=x",
            Address(
                hosts=(("a", 26379), ("b", 7000)),
                service="main",
                options={"db": 2} | ME,
                sentinel_options={"username": None, "password": "x"},
            ),
        ),
        (
            "rediss+sentinel://a:1,[::1]:2/main",
            Address(
                hosts=(("a", 1), ("::1", 2)),
                service="main",
                tls=True,
                options={"db": 0} | NOBODY | TLS,
                sentinel_options=NOBODY | TLS,
            ),
        ),
    ],
)
def test_valid_urls(url: str, address: Address) -> None:
    assert parse_url(url) == address
    # redis-py accepts the options too. It connects at the first command only.
    connect(url).close()
    connect_async(url)
    assert QueueSettings(redis_url=url).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "s3cret",
        "http://s3cret",
        "redis://",
        "redis://:s3cret@",
        "redis://:s3cret/@queue",
        "redis://:s3cret#@queue",
        "redis://:s3cret?a@queue",
        "redis://s3cret@queue",
        "redis://queue:s3cret",
        "redis://queue:99999",
        "redis://queue/s3cret",
        "redis://queue,another",
        "redis://queue?s3cret=1",
        "redis://queue?sentinel_password=s3cret",
        "redis://queue?ssl_ca_certs=/s3cret",
        "rediss://queue?ssl_ca_certs=/s3cret",
        "rediss://queue?ssl_check_hostname=s3cret",
        "rediss://queue?ssl_keyfile=/proc/version",
        "redis+sentinel://a,b",
        "redis+sentinel://a,,b/s3cret",
        "redis+sentinel://a/main/s3cret",
        "redis+cluster://a,b",
        "redis+other://s3cret",
        "unix://s3cret",
        "unix:///s3cret?ssl_ca_certs=x",
    ],
)
def test_invalid_urls_are_refused_in_one_line_without_secrets(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the message is checked below
        parse_url(url)
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_command_reports_an_invalid_url_in_one_line() -> None:
    command = start_command("worker", REDIS_URL="redis+sentinel://:s3cret@a:1,b:2")
    assert command.process.wait(60) == os.EX_CONFIG
    line = command.wait_for_line("wordlight: REDIS_URL: the Sentinels' name of the service is missing")
    assert "s3cret" not in line
    assert len(command.lines) == 2  # the line, and the end


def test_printed_settings_show_no_password() -> None:
    settings = QueueSettings(redis_url="redis://me:s3cret@queue")
    assert "s3cret" not in repr(settings) + str(settings)
    assert "s3cret" not in repr(parse_url("redis+sentinel://me:s3cret@queue/main?sentinel_password=s3cret"))


def test_without_a_primary_the_error_shows_no_password() -> None:
    url = f"redis+sentinel://me:s3cret@127.0.0.1:{free_port()}/main?sentinel_password=s3cret"

    async def ping() -> None:
        async with connect_async(url) as client:
            await client.ping()

    with connect(url) as client, pytest.raises(ConnectionError, match="no Sentinel") as caught:
        client.ping()
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConnectionError, match="no Sentinel") as caught:
        asyncio.run(ping())
    assert "s3cret" not in str(caught.value)


def test_a_sentinel_that_is_down_is_skipped_by_concurrent_connections(tmp_path: Path) -> None:
    down, port = free_port(), free_port()
    url = f"redis+sentinel://127.0.0.1:{down},127.0.0.1:{port}/main"

    async def ping_together() -> None:
        async with connect_async(url) as client:
            assert all(await asyncio.gather(*(client.ping() for _ in range(10))))

    with one_server(tmp_path) as primary:
        file = tmp_path / "sentinel.conf"
        file.write_text(f"sentinel monitor main 127.0.0.1 {primary.port} 1\n")
        sentinel = Node(tmp_path / "sentinel", str(file), "--sentinel", port=port)
        try:
            asyncio.run(ping_together())
            with connect(url) as client, ThreadPoolExecutor(10) as threads:
                assert all(threads.map(lambda _: client.ping(), range(10)))
        finally:
            sentinel.close()
