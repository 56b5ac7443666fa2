"""Log configuration for all processes: text or JSON lines on stderr, with times in UTC.

A record carries its `extra` and the surrounding `log_fields`. Control characters are escaped, so that logged input
cannot forge a line. Passwords in URLs are masked.
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

# The user's name and the password in a URL. The password ends at the last @ before the path.
_PASSWORD: Final = re.compile(r'(?<=://)([^\s/:@"]*):[^\s/"]*@')
_JSON_NAMES: Final = {"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception"}

_Level: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))


class LogSettings(BaseSettings):
    """Each field is read from WORDLIGHT_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="WORDLIGHT_", env_ignore_empty=True, extra="ignore")

    log_format: Literal["text", "json"] = Field("text", description="`text` is for people, `json` for machines")
    log_level: Annotated[_Level, BeforeValidator(str.upper)] = Field("INFO", description="lowest level that is logged")


def set_up_logs(settings: LogSettings) -> None:
    """Send this process's logs to stderr in the configured format."""
    handler = logging.StreamHandler()
    handler.addFilter(_add_fields)
    handler.setFormatter(_TextFormatter())
    if settings.log_format == "json":
        handler.setFormatter(_JsonFormatter())
        # A program that reads JSON must not get bare tracebacks.
        sys.excepthook = lambda *error: log.critical("uncaught exception", exc_info=error)
        threading.excepthook = lambda hook: log.critical("uncaught exception in a thread", exc_info=hook.exc_value)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # This library warns about every malformed form. The client gets an error anyway.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # This library logs every request of the command line.
    logging.getLogger("httpx2").setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Add these fields to every record logged inside, also by tasks started inside. Empty fields are left out."""
    token = _fields.set({**_fields.get(), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _fields.reset(token)


def log_field(name: str) -> str:
    """Return a field of the surrounding `log_fields`; an empty string if there is none."""
    return _fields.get().get(name, "")


def _add_fields(record: logging.LogRecord) -> bool:
    fields = _fields.get()
    for name, value in fields.items():
        record.__dict__.setdefault(name, value)
    record._log_fields = "".join(f" {name}={value}" for name, value in fields.items())
    return True


class _Formatter(logging.Formatter):
    """Times in UTC and masked passwords, for both formats."""

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
        # An exception's message may contain line breaks. Indented, no line of it looks like a log record.
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]
        return textwrap.indent("\n".join(map(_printable, lines)), "  ")


class _JsonFormatter(_Formatter, JsonFormatter):
    def __init__(self) -> None:
        names = ("asctime", "levelname", "name", "message")
        JsonFormatter.__init__(self, names, rename_fields=_JSON_NAMES)


def _printable(text: str) -> str:
    """Escape everything that moves the cursor, breaks the line or changes its direction."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
