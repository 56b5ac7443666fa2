"""Settings from files, and the one-line errors that name the variable."""

import os
from pathlib import Path

import pytest
from support.command import start_command

from app.settings import AppSettings
from jobs.settings import QueueSettings
from wordlight.queue_server import HomeSettings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("WORDLIGHT_", "REDIS_"))]:
        monkeypatch.delenv(name)


def test_any_setting_can_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, text in (
        ("REDIS_URL", "redis://:p%40ss@queue:6379/0\n"),
        ("WORDLIGHT_WEBHOOK_SECRET", "whsec_" + 32 * "A"),
        ("WORDLIGHT_MAX_JOBS", "7\r\n"),
        ("WORDLIGHT_CORS_ORIGINS", "https://one.test, https://two.test"),
    ):
        (tmp_path / variable).write_text(text)
        monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / variable))
    settings = AppSettings()
    assert settings.redis_url == "redis://:p%40ss@queue:6379/0"
    assert settings.webhook_secret
    assert settings.webhook_secret.get_secret_value() == "whsec_" + 32 * "A"
    assert settings.max_jobs == 7
    assert settings.cors_origins == ["https://one.test", "https://two.test"]
    assert "redis_url" in HomeSettings().model_fields_set  # so that no server is embedded beside it


def test_arguments_take_precedence_and_an_empty_path_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL_FILE", "")
    monkeypatch.setenv("WORDLIGHT_MAX_JOBS", "5")
    assert QueueSettings(max_jobs=3).max_jobs == 3
    assert QueueSettings().max_jobs == 5
    assert QueueSettings().redis_url == "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (70_000 * b"x", "is too large"),
    ],
    ids=["missing", "empty", "blank", "binary", "large"],
)
def test_an_unusable_file_is_reported_in_one_line(tmp_path: Path, content: bytes | None, error: str) -> None:
    path = tmp_path / "url"
    if content is not None:
        path.write_bytes(content)
    command = start_command("jobs", "list", REDIS_URL_FILE=str(path))
    assert command.end(0) == os.EX_CONFIG
    assert command.lines[:-1] == [f"wordlight: REDIS_URL_FILE: {path} {error}"]


def test_a_value_and_a_file_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://127.0.0.1:1/0")
    command = start_command("jobs", "list", REDIS_URL="redis://127.0.0.1:2/0", REDIS_URL_FILE=str(tmp_path / "url"))
    assert command.end(0) == os.EX_CONFIG
    assert command.lines[0] == "wordlight: REDIS_URL and REDIS_URL_FILE are both set; set only one of them"


def test_an_invalid_value_in_a_file_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://:secret@127.0.0.1/0")
    command = start_command("jobs", "list", REDIS_URL_FILE=str(tmp_path / "url"))
    assert command.end(0) == os.EX_CONFIG
    assert command.lines[0].startswith("wordlight: REDIS_URL: not a URL")
    assert "secret" not in "\n".join(command.lines)
