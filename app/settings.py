"""The web process's settings. Read once from the environment, passed in from there on."""

from typing import Self

from pydantic import Field, model_validator

from jobs.settings import QueueSettings


class AppSettings(QueueSettings):
    """Environment variables are the field names in capitals after WORDLIGHT_, but for REDIS_URL."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    max_upload_bytes: int = Field(
        20 * 1024 * 1024, ge=1, description="largest file taken; greater ones are answered 413"
    )
    max_uploads: int = Field(64, ge=1, description="uploads being received at once; more are answered 503")
    upload_seconds: float = Field(60, gt=0, description="an upload that takes longer is answered 408")
    max_pixels: int = Field(64_000_000, ge=1, description="width x height of the largest picture taken")
    working_side: int = Field(768, ge=64, description="the long side that pictures are kept at, in pixels")
    decoders: int = Field(2, ge=1, description="processes that decode uploads")
    decode_seconds: float = Field(20, gt=0, description="a picture that takes longer to decode is refused")
    decode_bytes: int = Field(3 * 2**29, ge=2**28, description="address space of a decoding process")
    max_wait_seconds: int = Field(60, ge=0, description="longest wait for a result within one request")

    @model_validator(mode="after")
    def _decoders_can_take_uploads_in(self) -> Self:
        if self.max_upload_bytes > self.decode_bytes // 8:
            raise ValueError("WORDLIGHT_MAX_UPLOAD_BYTES may be at most an eighth of WORDLIGHT_DECODE_BYTES")
        return self
