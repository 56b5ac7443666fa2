"""The log: formats, levels, hidden secrets, and the fields of a worker's lines."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from redis import Redis
from support.command import Command
from support.workers import start_worker, submit_long_jobs, wait_until_ended

from jobs import keys
from jobs.settings import QueueSettings

JSON_LOGS = {"WORDLIGHT_LOG_FORMAT": "json"}
LOGGING = """
import logging
from jobs.logs import LogSettings, log_fields, set_up_logs
set_up_logs(LogSettings())
log = logging.getLogger("test")
log.debug("not to be seen")
log.info("to redis://user:p%s@host/0 and http://host/a:b@c", "ass", extra={"count": 3})
with log_fields(job="7", request_id=""), log_fields(stage="last"):
    try:
        raise ValueError("bad\\n2026-01-01T00:00:00.000Z INFO test: forged \\x1b[0m redis://:pass@host")
    except ValueError:
        log.exception("failed")
log.info("after")
raise SystemExit(0) if FORMAT == "text" else RuntimeError("the end")
"""


def logged(command: Command) -> list[dict[str, Any]]:
    """Parse the log of a command that has ended. Every line must be one JSON object."""
    return [json.loads(line) for line in command.lines if line != "(end of output)"]


def run_logging(log_format: str, **environment: str) -> list[str]:
    program = f"FORMAT = {log_format!r}\n{LOGGING}"
    environment |= {"WORDLIGHT_LOG_FORMAT": log_format, "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "pass" not in done.stderr
    return done.stderr.splitlines()


def test_text_logs_escape_line_breaks_and_hide_secrets() -> None:
    first, second, *traceback, last = run_logging("text")
    assert first.endswith("INFO test: to redis://user:***@host/0 and http://host/a:b@c")
    assert second.endswith("ERROR test: failed job=7 stage=last")
    assert last.endswith("INFO test: after")
    assert traceback
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)


def test_json_logs_have_extras_fields_and_exceptions() -> None:
    first, second, third, last = map(json.loads, run_logging("json"))
    assert first["count"] == 3
    assert (second["job"], second["stage"], second["level"]) == ("7", "last", "ERROR")
    assert "request_id" not in second
    assert second["exception"].startswith("Traceback")
    assert "job" not in third
    assert "the end" in last["exception"]


def test_the_log_level_is_a_setting() -> None:
    assert [json.loads(line)["level"] for line in run_logging("json", WORDLIGHT_LOG_LEVEL="error")] == [
        "ERROR",
        "CRITICAL",
    ]


def test_worker_logs_name_the_job(settings: QueueSettings, redis: Redis, tiny_captioner: Path) -> None:
    lost, good = submit_long_jobs(settings, 2)
    redis.delete(keys.image(lost))
    worker = start_worker(settings, tiny_captioner, **JSON_LOGS)
    wait_until_ended(settings, [lost, good])
    assert worker.end() == 0
    by_job = {line["job"]: line for line in logged(worker) if "job" in line}
    assert by_job[lost]["level"] == "ERROR"
    assert "exception" in by_job[lost]
    assert by_job[good]["level"] == "INFO"
