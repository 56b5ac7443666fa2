"""The settings of the web process, and parsers for the rate limits, hosts and secrets in them.

The settings are read once, from the environment, and passed to whatever needs them.
"""

import base64
import ipaddress
import re
from contextlib import suppress
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final, Self

from limits import RateLimitItem, parse_many
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from app.images.limits import ImageLimits
from jobs.settings import QueueSettings

WEBHOOK_SECRET_PREFIX: Final = "whsec_"
_WEBHOOK_KEY_BYTES: Final = range(24, 65)  # of a secret's key, as Standard Webhooks defines it
_ORIGIN: Final = re.compile(r"https?://[^\s/?#@*]+")
# Redis keeps an entry for every picture within a rate limit's period.
_MOST_PICTURES: Final = 1_000_000
_LONGEST_PERIOD_SECONDS: Final = 366 * 86_400
_IMAGE: Final = ImageLimits()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can use the host: localhost, 127.0.0.0/8 or ::1, without port or brackets."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def parse_limit(text: str) -> tuple[RateLimitItem, ...]:
    """Parse a rate limit such as "60/minute" or "5/second;1000/day", the shortest period first.

    Raises ValueError with a message of one line.
    """
    try:
        limits = parse_many(text)
    except ValueError:
        raise ValueError(f'a rate limit looks like "60/minute" or "5/second;1000/day", not {text!r}') from None
    for limit in limits:
        if not 1 <= limit.amount <= _MOST_PICTURES:
            raise ValueError(f"a rate limit allows 1 to {_MOST_PICTURES:,} pictures, not {limit.amount:,}")
        if limit.get_expiry() > _LONGEST_PERIOD_SECONDS:
            raise ValueError("the period of a rate limit is at most one year")
    return tuple(sorted(limits, key=lambda limit: limit.get_expiry()))


def webhook_key(secret: str) -> bytes:
    """The key in a webhook secret: `whsec_` and base64. Raises ValueError for any other text."""
    if not secret.startswith(WEBHOOK_SECRET_PREFIX):
        raise ValueError(f"does not begin with {WEBHOOK_SECRET_PREFIX}")
    return base64.b64decode(secret.removeprefix(WEBHOOK_SECRET_PREFIX), validate=True)


def check_webhook_secret(secret: str) -> str:
    """Return the secret unchanged. Raises ValueError if it is malformed; the message does not repeat it."""
    with suppress(ValueError):
        if len(webhook_key(secret)) in _WEBHOOK_KEY_BYTES:
            return secret
    prefix = WEBHOOK_SECRET_PREFIX
    raise ValueError(f"must be {prefix} and the base64 of 24 to 64 bytes, such as: {prefix}$(openssl rand -base64 32)")


def _split(value: object) -> object:
    return [part.strip().lower() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        raise ValueError(f"an origin looks like https://example.org, without a path or *, not {value!r}")
    return value


def _limit(value: str) -> str:
    parse_limit(value)
    return value


def _signing_secret(value: SecretStr) -> SecretStr:
    check_webhook_secret(value.get_secret_value())
    return value


# Comma-separated in the environment.
_Networks = Annotated[list[IPv4Network | IPv6Network], NoDecode, BeforeValidator(_split)]
_Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]
_Seconds = Annotated[list[Annotated[float, Field(ge=0, allow_inf_nan=False)]], NoDecode, BeforeValidator(_split)]
_Origins = Annotated[list[Annotated[str, AfterValidator(_origin)]], NoDecode, BeforeValidator(_split)]


class AppSettings(QueueSettings):
    """Settings of `wordlight api`. Each is read from the variable WORDLIGHT_ and the field's name in capitals.

    REDIS_URL alone has no prefix.
    """

    host: str = Field("127.0.0.1", description="address to listen on; any but a loopback address requires keys")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    listen_fd: int | None = Field(None, description="file descriptor of a socket that a supervisor listens on")
    require_keys: bool | None = Field(
        None, description="whether requests need an API key; by default they do unless `host` is a loopback address"
    )
    default_limit: Annotated[str, AfterValidator(_limit)] | None = Field(
        None, description='rate limit of keys without one of their own, such as "60/minute" or "5/second;1000/day"'
    )
    trusted_proxies: _Networks = Field(
        [IPv4Network("127.0.0.1/32")],
        description="networks of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are used",
    )
    allowed_hosts: _Names = Field([], description="host names, besides localhost, that work without keys")
    cors_origins: _Origins = Field([], description="origins whose pages may use the API from a browser")
    max_upload_bytes: int = Field(_IMAGE.max_bytes, ge=1, description="largest file; a larger one is answered with 413")
    max_batch_files: int = Field(100, ge=1, description="most files in a batch, including those in its archives")
    max_batch_bytes: int = Field(200 * 1024 * 1024, ge=1, description="largest batch, as sent")
    max_batch_expanded_bytes: int = Field(
        400 * 1024 * 1024, ge=1, description="most bytes that the archives of a batch may expand to"
    )
    max_batches: int = Field(8, ge=1, description="batches received at the same time; more are answered with 503")
    batch_seconds: float = Field(300, gt=0, description="time to receive a batch; a slower one is answered with 408")
    max_uploads: int = Field(64, ge=1, description="uploads received at the same time; more are answered with 503")
    upload_seconds: float = Field(60, gt=0, description="time to receive an upload; a slower one is answered with 408")
    max_pixels: int = Field(_IMAGE.max_pixels, ge=1, description="largest picture, width x height")
    working_side: int = Field(_IMAGE.working_side, ge=64, description="longer side of stored pictures, in pixels")
    decoders: int = Field(2, ge=1, description="processes that decode uploads")
    decode_seconds: float = Field(
        _IMAGE.decode_seconds, gt=0, description="time to decode a picture before it is refused"
    )
    decode_bytes: int = Field(_IMAGE.decode_bytes, ge=2**28, description="address space of a decoding process")
    image_urls: bool = Field(False, description="whether clients may send an `image_url` instead of a file")
    webhook_secret: Annotated[SecretStr, AfterValidator(_signing_secret)] | None = Field(
        None, description="enables webhooks and signs them, directly or through derived secrets; `whsec_` and base64"
    )
    webhook_retry_seconds: _Seconds = Field(
        [5, 30, 120, 300, 600, 1200], description="delays after failed deliveries; after the last, delivery stops"
    )
    outbound_networks: _Networks = Field([], description="private networks that image URLs and webhooks may reach")
    outbound_https_only: bool = Field(False, description="whether image URLs and webhooks must use https")
    max_wait_seconds: int = Field(60, ge=0, description="longest time that one request waits for a result")

    @property
    def keys_required(self) -> bool:
        """Whether every request needs an API key."""
        return not is_loopback(self.host) if self.require_keys is None else self.require_keys

    @property
    def image_limits(self) -> ImageLimits:
        """Bounds on one image file and on the process that decodes it."""
        return ImageLimits(
            max_bytes=self.max_upload_bytes,
            max_pixels=self.max_pixels,
            working_side=self.working_side,
            decode_seconds=self.decode_seconds,
            decode_bytes=self.decode_bytes,
        )

    @model_validator(mode="after")
    def _require_keys_beyond_loopback(self) -> Self:
        # A supervisor has checked the address of the socket that it passes on.
        if not (self.keys_required or is_loopback(self.host) or self.listen_fd is not None):
            raise ValueError("WORDLIGHT_REQUIRE_KEYS=false needs a loopback address in WORDLIGHT_HOST")
        return self

    @model_validator(mode="after")
    def _fit_uploads_into_decoders(self) -> Self:
        if self.max_upload_bytes > self.image_limits.largest_file:
            raise ValueError("WORDLIGHT_MAX_UPLOAD_BYTES may be at most an eighth of WORDLIGHT_DECODE_BYTES")
        return self
