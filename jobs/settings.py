"""The settings that all processes share. They are read once from the environment and passed in.

The value of any setting may be in a file instead, for passwords and secrets: X_FILE is the path, as REDIS_URL_FILE.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from jobs.connection import parse_url

_MOST_BYTES = 64 * 1024


class SettingsFiles(EnvSettingsSource):
    """Reads settings from the files that the environment names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the text of the setting's file without its last line break. Raises ValueError, in one line."""
        for key, variable, is_complex in self._extract_field_info(field, field_name):
            path = self.env_vars.get(f"{variable}_file")
            if path is not None:
                name = variable.upper()
                if variable in self.env_vars:
                    raise ValueError(f"{name} and {name}_FILE are both set; set only one of them")
                return _read(f"{name}_FILE", Path(path)), key, is_complex
        return None, field_name, False


def _read(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name}: {path} is not text in UTF-8") from None
    if not text or len(content) > _MOST_BYTES:
        raise ValueError(f"{name}: {path} is {'empty' if not text else 'too large'}")
    return text


def _valid_url(url: str) -> str:
    parse_url(url)
    return url


class QueueSettings(BaseSettings):
    """Each field is read from WORDLIGHT_ and its name in capitals, except REDIS_URL."""

    model_config = SettingsConfigDict(
        env_prefix="WORDLIGHT_", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    redis_url: Annotated[str, AfterValidator(_valid_url)] = Field(
        "redis://127.0.0.1:6379/0",
        validation_alias="REDIS_URL",
        repr=False,  # it may contain a password
        description="the Redis or Valkey that all processes share (docs/queue-server.md); "
        "if not set, `wordlight serve` starts one",
    )
    max_jobs: int = Field(1000, ge=1, description="jobs that may wait or run at once; more are answered 503")
    job_lifetime_seconds: int = Field(86_400, ge=1, description="a job that has not begun by then expires")
    result_ttl_seconds: int = Field(3_600, ge=1, description="how long a finished job can be read")
    max_pictures: int = Field(2000, ge=0, description="finished jobs whose picture is kept for drawing heatmaps")
    dead_ttl_seconds: int = Field(7 * 86_400, ge=1, description="how long a dead letter and its picture are kept")
    takeover_seconds: float = Field(10, gt=0, description="a worker silent for so long loses its jobs to others")
    max_attempts: int = Field(5, ge=1, description="attempts at a job before it becomes a dead letter")
    solo_attempts: int = Field(2, ge=0, description="attempts at a job in a batch before it runs alone")
    replicas: int = Field(
        0, ge=0, description="replicas of the queue server that must have a job before the answer 202; otherwise 503"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of values, by precedence: arguments, the environment, files named there."""
        return init_settings, env_settings, SettingsFiles(settings_cls)

    def alive_since(self, now: float) -> float:
        """Return the oldest heartbeat of a live worker, in ms; `now` is Redis's time in seconds."""
        return (now - self.takeover_seconds) * 1000
