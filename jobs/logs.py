"""Logs, the same for every process: for people as text, for machines as JSON, one object a line.

In: log records, with what they carry as `extra` and with the `log_fields` around them; out: lines on stderr, with times
in UTC. What a stranger wrote cannot begin a line of its own, and passwords in URLs are blotted out.
"""

import logging
import re
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from pythonjsonlogger.json import JsonFormatter

log = logging.getLogger(__name__)

# Of a URL, what stands between the user's name and the last @ before the path.
_PASSWORD: Final = re.compile(r'(?<=://)([^\s/:@"]*):[^\s/"]*@')
_JSON_NAMES: Final = {"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception"}

_Level: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))


class LogSettings(BaseSettings):
    """Environment variables are the field names in capitals after WORDLIGHT_."""

    model_config = SettingsConfigDict(env_prefix="WORDLIGHT_", env_ignore_empty=True, extra="ignore")

    log_format: Literal["text", "json"] = Field("text", description="for people, or for machines")
    log_level: Annotated[_Level, BeforeValidator(str.upper)] = Field("INFO", description="the least that is logged")


def set_up_logs(settings: LogSettings) -> None:
    """Send all that is logged in this process to stderr, in the form that the settings say."""
    handler = logging.StreamHandler()
    handler.addFilter(_add_fields)
    handler.setFormatter(_TextFormatter())
    if settings.log_format == "json":
        handler.setFormatter(_JsonFormatter())
        # Whoever reads JSON should not meet bare tracebacks in between.
        sys.excepthook = lambda *error: log.critical("uncaught exception", exc_info=error)
        threading.excepthook = lambda hook: log.critical("a thread has died", exc_info=hook.exc_value)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # It warns of every oddity in strangers' forms, which are answered.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # It tells of every request of the command line's.
    logging.getLogger("httpx2").setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Everything logged within, here or in a task begun here, carries these fields too; empty ones are left out."""
    token = _fields.set({**_fields.get(), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _fields.reset(token)


def log_field(name: str) -> str:
    """The value of that field of the `log_fields` around; empty if there is none."""
    return _fields.get().get(name, "")


def _add_fields(record: logging.LogRecord) -> bool:
    fields = _fields.get()
    for name, value in fields.items():
        record.__dict__.setdefault(name, value)
    record._log_fields = "".join(f" {name}={value}" for name, value in fields.items())
    return True


class _Formatter(logging.Formatter):
    """What both forms have in common."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        return _PASSWORD.sub(r"\1:***@", super().format(record))


class _TextFormatter(_Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s%(_log_fields)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _printable(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        # An exception's message may hold line breaks: indented, none of its lines looks like one of ours.
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]
        return textwrap.indent("\n".join(map(_printable, lines)), "  ")


class _JsonFormatter(_Formatter, JsonFormatter):
    def __init__(self) -> None:
        names = ("asctime", "levelname", "name", "message")
        JsonFormatter.__init__(self, names, rename_fields=_JSON_NAMES)


def _printable(text: str) -> str:
    """`text` with whatever moves a cursor, breaks a line or turns it around written out as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
