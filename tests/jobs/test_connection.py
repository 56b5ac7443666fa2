"""REDIS_URL: what it may be, and one line about what it may not be that tells no secret."""

import os

import pytest
from command import start_command

from jobs.address import Address, Credentials, Kind, Tls, parse_address
from jobs.connection import connect, connect_async
from jobs.settings import QueueSettings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://queue", Address(Kind.SERVER, (("queue", 6379),))),
        ("redis://queue:7000/3", Address(Kind.SERVER, (("queue", 7000),), database=3)),
        ("redis://queue?db=3", Address(Kind.SERVER, (("queue", 6379),), database=3)),
        ("redis://[::1]:7000/", Address(Kind.SERVER, (("::1", 7000),))),
        (
            "redis://:p%40ss%2F@queue",
            Address(Kind.SERVER, (("queue", 6379),), credentials=Credentials(None, "p@ss/")),
        ),
        ("redis://me:p:q@queue", Address(Kind.SERVER, (("queue", 6379),), credentials=Credentials("me", "p:q"))),
        ("unix:///run/a@b/c%20d.sock?db=1", Address(Kind.SERVER, path="/run/a@b/c d.sock", database=1)),
        ("unix://me:pw@/run/c.sock", Address(Kind.SERVER, path="/run/c.sock", credentials=Credentials("me", "pw"))),
        ("rediss://queue", Address(Kind.SERVER, (("queue", 6379),), tls=Tls())),
        (
            "rediss://queue?ssl_ca_certs=/dev/../proc/version&ssl_check_hostname=false",
            Address(Kind.SERVER, (("queue", 6379),), tls=Tls("/dev/../proc/version", check_hostname=False)),
        ),
        (
            "redis+sentinel://me:pw@a,b:7000/main/2?sentinel_password=x",
            Address(
                Kind.SENTINEL,
                (("a", 26379), ("b", 7000)),
                service="main",
                database=2,
                credentials=Credentials("me", "pw"),
                sentinel_credentials=Credentials(None, "x"),
            ),
        ),
        (
            "rediss+cluster://me:pw@a:1,[::1]:2",
            Address(Kind.CLUSTER, (("a", 1), ("::1", 2)), credentials=Credentials("me", "pw"), tls=Tls()),
        ),
    ],
)
def test_what_it_may_be(url: str, address: Address) -> None:
    assert parse_address(url) == address
    # The libraries take it, too, though they connect to nothing yet.
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
        "redis://queue?ssl_ca_certs=/s3cret",
        "rediss://queue?ssl_ca_certs=/s3cret",
        "rediss://queue?ssl_check_hostname=s3cret",
        "rediss://queue?ssl_keyfile=/proc/version",
        "redis+sentinel://a,b",
        "redis+sentinel://a,,b/s3cret",
        "redis+cluster://a,b/1",
        "redis+cluster://a?sentinel_password=s3cret",
        "redis+other://s3cret",
        "unix://s3cret",
        "unix:///s3cret?ssl_ca_certs=x",
    ],
)
def test_what_it_may_not_be(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the message is what is looked at
        parse_address(url)
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_command_says_it_in_one_line() -> None:
    command = start_command("worker", REDIS_URL="redis+sentinel://:s3cret@a:1,b:2")
    assert command.process.wait(60) == os.EX_CONFIG
    line = command.wait_for_line("wordlight: REDIS_URL: the Sentinels' name of the service is missing")
    assert "s3cret" not in line
    assert len(command.lines) == 2  # the line, and the end


def test_settings_that_are_printed_show_no_password() -> None:
    settings = QueueSettings(redis_url="redis://me:s3cret@queue")
    assert "s3cret" not in repr(settings) + str(settings)
    assert "s3cret" not in repr(parse_address(settings.redis_url))
