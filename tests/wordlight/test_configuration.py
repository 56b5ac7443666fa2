"""`wordlight config` and docs/configuration.md."""

import json
import os
import subprocess
import sys
from pathlib import Path

from support.command import clean_environment

from wordlight.commands.configuration import markdown, sections

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def config(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wordlight", "config", *arguments],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_documentation_lists_the_settings_of_the_code() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(list(sections())), (
        "generate it again: wordlight config --markdown > docs/configuration.md"
    )


def test_every_setting_has_one_description() -> None:
    settings = [setting for section in sections() for setting in section.settings]
    assert [setting.variable for setting in settings if not setting.description] == []
    names = [setting.variable for setting in settings]
    assert len(set(names)) == len(names)
    assert {"REDIS_URL", "WORDLIGHT_PORT", "WORDLIGHT_BATCH_SIZE", "WORDLIGHT_HOME", "WORDLIGHT_LOG_FORMAT"} <= set(
        names
    )


def test_values_are_shown_without_secrets() -> None:
    done = config(
        "--json",
        REDIS_URL="redis+sentinel://me:s3cret@a:1,b:2/main?sentinel_password=s3cret",
        WORDLIGHT_WEBHOOK_SECRET="whsec_" + "s3cretXX" * 4,
        WORDLIGHT_MAX_JOBS="7",
        WORDLIGHT_WEBHOOK_RETRY_SECONDS="1,2.5",
        WORDLIGHT_MAX_JOB="8",
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["REDIS_URL"] == {"value": "redis+sentinel://***@a:1,b:2/main", "set": True}
    assert shown["WORDLIGHT_MAX_JOBS"] == {"value": "7", "set": True}
    assert shown["WORDLIGHT_WEBHOOK_RETRY_SECONDS"] == {"value": "1,2.5", "set": True}
    assert shown["WORDLIGHT_WEBHOOK_SECRET"] == {"value": "***", "set": True}
    assert shown["WORDLIGHT_PORT"] == {"value": "8000", "set": False}
    assert "s3cret" not in done.stdout + done.stderr
    assert "WORDLIGHT_MAX_JOB is set but is not a setting" in done.stderr


def test_plain_output_marks_defaults() -> None:
    done = config(WORDLIGHT_PORT="9000")
    lines = {tuple(line.split()) for line in done.stdout.splitlines()}
    assert ("WORDLIGHT_PORT", "9000") in lines
    assert ("WORDLIGHT_MAX_JOBS", "1000", "(default)") in lines


def test_an_invalid_value_is_a_one_line_error() -> None:
    done = config(REDIS_URL="redis://:s3cret@host:port")
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.startswith("wordlight: REDIS_URL: ")
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr
