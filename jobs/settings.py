"""The settings that every process on the queue shares. Read once from the environment, passed in from there on."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from jobs.address import parse_address
from jobs.settings_files import SettingsFiles


def _known_url(url: str) -> str:
    parse_address(url)
    return url


class QueueSettings(BaseSettings):
    """Environment variables are the field names in capitals after WORDLIGHT_, but for REDIS_URL.

    Each may be the text of a file instead, whose path is in the variable with _FILE at its end.
    """

    model_config = SettingsConfigDict(
        env_prefix="WORDLIGHT_", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    redis_url: Annotated[str, AfterValidator(_known_url)] = Field(
        "redis://127.0.0.1:6379/0",
        validation_alias="REDIS_URL",
        repr=False,  # there may be a password in it
        description="the Redis or Valkey that all processes share (docs/queue-server.md); `wordlight serve` starts one "
        "where this is not set",
    )
    max_jobs: int = Field(1000, ge=1, description="jobs that may wait or run at once; more are answered 503")
    job_lifetime_seconds: int = Field(86_400, ge=1, description="a job not begun by then expires")
    result_ttl_seconds: int = Field(3_600, ge=1, description="how long a finished job can be read")
    max_pictures: int = Field(2000, ge=0, description="finished jobs whose picture is kept, for heatmaps drawn here")
    dead_ttl_seconds: int = Field(7 * 86_400, ge=1, description="how long a dead letter and its picture are kept")
    takeover_seconds: float = Field(10, gt=0, description="a worker not heard of for so long has lost its jobs")
    max_attempts: int = Field(5, ge=1, description="attempts at a job before it goes to the dead letters")
    solo_attempts: int = Field(2, ge=0, description="attempts in a batch before a job is tried alone")
    replicas: int = Field(
        0, ge=0, description="replicas of the queue server that must have a job before it is answered 202, else 503"
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
        """Where values come from, the first that has one: arguments, the environment, files that it names."""
        return init_settings, env_settings, SettingsFiles(settings_cls)

    def alive_since(self, now: float) -> float:
        """When a worker must have been heard of to count as alive at `now` (in seconds by Redis's clock), in ms."""
        return (now - self.takeover_seconds) * 1000
