"""The web process's settings. Read once from the environment, passed in from there on."""

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from app.limit import parse_limit
from app.loopback import is_loopback
from app.outbound.signing import checked_secret
from jobs.settings import QueueSettings

_ORIGIN = re.compile(r"https?://[^\s/?#@*]+")


def _split(value: object) -> object:
    return [part.strip().lower() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        raise ValueError(f"an origin is written https://example.org, with neither path nor *, and not {value!r}")
    return value


def _limit(value: str) -> str:
    parse_limit(value)
    return value


def _signing_secret(value: SecretStr) -> SecretStr:
    checked_secret(value.get_secret_value())
    return value


# Comma-separated in the environment.
_Networks = Annotated[list[IPv4Network | IPv6Network], NoDecode, BeforeValidator(_split)]
_Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]
_Seconds = Annotated[list[Annotated[float, Field(ge=0, allow_inf_nan=False)]], NoDecode, BeforeValidator(_split)]
_Origins = Annotated[list[Annotated[str, AfterValidator(_origin)]], NoDecode, BeforeValidator(_split)]


class AppSettings(QueueSettings):
    """Environment variables are the field names in capitals after WORDLIGHT_, but for REDIS_URL."""

    host: str = Field("127.0.0.1", description="address to listen on; beyond this machine, keys are needed")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    listen_fd: int | None = Field(None, description="a listening socket that a supervisor opened for this process")
    require_keys: bool | None = Field(
        None, description="whether every request needs an API key; not set: when others than this machine can ask"
    )
    default_limit: Annotated[str, AfterValidator(_limit)] | None = Field(
        None,
        description='pictures that a key without a limit of its own may send, as "60/minute" or "5/second;1000/day"',
    )
    trusted_proxies: _Networks = Field(
        [IPv4Network("127.0.0.1/32")],
        description="networks of reverse proxies, which are believed who asks (X-Forwarded-For) and by which scheme",
    )
    allowed_hosts: _Names = Field([], description="names, besides localhost, that are answered to without keys")
    cors_origins: _Origins = Field([], description="origins whose pages may use the service from a browser")
    max_upload_bytes: int = Field(
        20 * 1024 * 1024, ge=1, description="largest file taken; greater ones are answered 413"
    )
    max_batch_files: int = Field(100, ge=1, description="files in a batch, those of its archives counted")
    max_batch_bytes: int = Field(200 * 1024 * 1024, ge=1, description="a batch as it is sent")
    max_batch_expanded_bytes: int = Field(400 * 1024 * 1024, ge=1, description="what the archives of a batch expand to")
    max_batches: int = Field(8, ge=1, description="batches being received at once; more are answered 503")
    batch_seconds: float = Field(300, gt=0, description="a batch that takes longer to arrive is answered 408")
    max_uploads: int = Field(64, ge=1, description="uploads being received at once; more are answered 503")
    upload_seconds: float = Field(60, gt=0, description="an upload that takes longer is answered 408")
    max_pixels: int = Field(64_000_000, ge=1, description="width x height of the largest picture taken")
    working_side: int = Field(768, ge=64, description="the long side that pictures are kept at, in pixels")
    decoders: int = Field(2, ge=1, description="processes that decode uploads")
    decode_seconds: float = Field(20, gt=0, description="a picture that takes longer to decode is refused")
    decode_bytes: int = Field(3 * 2**29, ge=2**28, description="address space of a decoding process")
    header_seconds: float = Field(10, gt=0, description="a connection whose request headers take longer is closed")
    image_urls: bool = Field(False, description="whether pictures may be fetched from an `image_url`")
    webhook_secret: Annotated[SecretStr, AfterValidator(_signing_secret)] | None = Field(
        None, description="`whsec_` and base64: webhooks are sent, and signed with it or with secrets derived from it"
    )
    webhook_retry_seconds: _Seconds = Field(
        [5, 30, 120, 300, 600, 1200], description="how long to wait after each try that failed; then there is no other"
    )
    outbound_networks: _Networks = Field([], description="networks that may be asked although they are not public")
    outbound_https_only: bool = Field(False, description="whether an `image_url` and a webhook must be https")
    max_wait_seconds: int = Field(60, ge=0, description="longest wait for a result within one request")

    @property
    def keys_required(self) -> bool:
        """Whether every request needs an API key."""
        return not is_loopback(self.host) if self.require_keys is None else self.require_keys

    @model_validator(mode="after")
    def _nobody_else_without_a_key(self) -> Self:
        # What a supervisor listens on, it has checked itself.
        if not (self.keys_required or is_loopback(self.host) or self.listen_fd is not None):
            raise ValueError("WORDLIGHT_REQUIRE_KEYS=false is for this machine only, and WORDLIGHT_HOST lets others in")
        return self

    @model_validator(mode="after")
    def _decoders_can_take_uploads_in(self) -> Self:
        if self.max_upload_bytes > self.decode_bytes // 8:
            raise ValueError("WORDLIGHT_MAX_UPLOAD_BYTES may be at most an eighth of WORDLIGHT_DECODE_BYTES")
        return self
