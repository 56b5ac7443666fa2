"""`wordlight config`: shows all settings and their values, and generates docs/configuration.md. Hides secrets."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsError

from jobs.connection import hide_secrets
from jobs.logs import LogSettings
from jobs.settings import QueueSettings
from wordlight.commands.options import AddCommand
from wordlight.queue_server import HomeSettings
from wordlight.terminal import fail

_ROOT = Path(__file__).parents[2]
_SIZES = ((2**30, "GiB"), (2**20, "MiB"))
_HEAD = """# Settings

Each process reads its settings from its environment. An invalid value ends the process with one line that names the
variable. An empty value counts as not set. `wordlight config` shows the values in its own environment.

`wordlight config --markdown` generates this page.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable."""

    variable: str
    default: str
    may_be: str
    description: str
    field: str


@dataclass(frozen=True, slots=True)
class Section:
    """The settings that a class adds to those of its base classes."""

    title: str
    kind: type[BaseSettings]
    settings: list[Setting]


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def read_settings(kind: type[SettingsT]) -> SettingsT:
    """Read settings from the environment and from files that it names.

    An invalid value ends the command with one line that names the variable and does not show the value.
    """
    try:
        return kind()
    except SettingsError as error:
        fail(str(error.__cause__ or error), os.EX_CONFIG)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        variable = _variable(kind, name, kind.model_fields[name]) if name in kind.model_fields else name
        # Pydantic puts "Value error, " in front of the message of a validator.
        fail(": ".join(filter(None, [variable, first["msg"].removeprefix("Value error, ")])), os.EX_CONFIG)


def add_configuration(command: AddCommand) -> None:
    """Add the command."""
    config = command("config", _config)
    form = config.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print all settings and their defaults as tables")


def sections() -> Iterator[Section]:
    """Yield all settings, each under the first process that has it. Skip processes that are not installed."""
    for title, load in _SECTIONS:
        try:
            kind = load()
        except ModuleNotFoundError as error:
            print(f"wordlight: {title}: not shown because {error.name} is not installed", file=sys.stderr)
            continue
        inherited = {name for base in kind.__bases__ for name in getattr(base, "model_fields", {})}
        fields = {name: field for name, field in kind.model_fields.items() if name not in inherited}
        yield Section(title, kind, [_setting(kind, name, field) for name, field in fields.items()])


def markdown(all_sections: Sequence[Section]) -> str:
    """Format docs/configuration.md."""
    parts = [_HEAD]
    for section in all_sections:
        rows = [_row(setting) for setting in section.settings]
        table = ["| variable | default | may be | |", "| --- | --- | --- | --- |", *rows]
        parts += [f"## {section.title}\n", "\n".join(table) + "\n"]
    return "\n".join(parts)


def _row(setting: Setting) -> str:
    default = f" `{setting.default}`" if setting.default else ""
    return f"| `{setting.variable}` |{default} | {setting.may_be} | {setting.description} |"


def _worker() -> type[BaseSettings]:
    from worker.settings import WorkerSettings

    return WorkerSettings


def _app() -> type[BaseSettings]:
    from app.settings import AppSettings

    return AppSettings


def _serve() -> type[BaseSettings]:
    from wordlight.service import ServeSettings

    return ServeSettings


_SECTIONS = (
    ("Every process: the queue", lambda: QueueSettings),
    ("Every process: logs", lambda: LogSettings),
    ("The web process: `wordlight api`, `wordlight serve`", _app),
    ("A worker: `wordlight worker`, `wordlight serve`", _worker),
    ("The embedded queue server: `wordlight serve`, `keys`, `jobs`", lambda: HomeSettings),
    ("`wordlight serve` itself", _serve),
)


def _config(arguments: argparse.Namespace) -> int:
    """show all settings and their values in this environment"""
    all_sections = list(sections())
    if arguments.markdown:
        print(markdown(all_sections), end="")
        return 0
    effective: dict[str, dict[str, object]] = {}
    for section in all_sections:
        values = read_settings(section.kind)
        for setting in section.settings:
            value = getattr(values, setting.field)
            effective[setting.variable] = {"value": _shown(value), "set": setting.field in values.model_fields_set}
    if arguments.json:
        print(json.dumps(effective))
    else:
        width = max(map(len, effective))
        for variable, entry in effective.items():
            print(f"{variable:{width}}  {entry['value']}" + ("" if entry["set"] else "  (default)"))
    known = {name.upper() for name in effective}
    for name in sorted(os.environ):
        if name.upper().startswith("WORDLIGHT_") and name.upper() not in known:
            print(f"wordlight: {name} is set but is not a setting", file=sys.stderr)
    return 0


def _setting(kind: type[BaseSettings], name: str, field: FieldInfo) -> Setting:
    return Setting(
        variable=_variable(kind, name, field),
        default=_shown(field.get_default(call_default_factory=True)),
        may_be=_may_be(field),
        description=(field.description or "").replace("|", "\\|"),
        field=name,
    )


def _variable(kind: type[BaseSettings], name: str, field: FieldInfo) -> str:
    if isinstance(field.validation_alias, str):
        return field.validation_alias
    return f"{kind.model_config.get('env_prefix', '')}{name}".upper()


def _shown(value: object) -> str:
    """Format a value as in the environment, without secrets."""
    match value:
        case None:
            return ""
        case SecretStr():
            return "***"
        case bool():
            return str(value).lower()
        case list():
            return ",".join(map(_shown, value))
        case Path():
            return str(value.relative_to(_ROOT) if value.is_relative_to(_ROOT) else value)
        case float():
            return f"{value:g}"
        case str():
            return hide_secrets(value) if "://" in value else value
    return str(value)


def _may_be(field: FieldInfo) -> str:
    """Describe the values that a setting accepts."""
    words = _kind_of(field.annotation)
    for bound in field.metadata:
        match bound:
            case Ge():
                words += f" ≥ {_size(bound.ge)}"
            case Gt():
                words += f" > {_size(bound.gt)}"
            case Le():
                words += f", ≤ {_size(bound.le)}"
    default = field.default
    if isinstance(default, int) and default >= _SIZES[-1][0] and default % _SIZES[-1][0] == 0:
        words += f" ({_size(default)} by default)"
    return words


def _size(number: Any) -> str:
    for unit, name in _SIZES:
        if number >= unit and number % (unit // 4) == 0:
            return f"{number / unit:g} {name}"
    return f"{number:g}"


def _kind_of(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is list:
        return "comma-separated list"
    kinds: Mapping[Any, str] = {bool: "`true`, `false`", int: "whole number", float: "number", Path: "path"}
    for kind in (annotation, *get_args(annotation)):
        if kind in kinds:
            return kinds[kind]
        if get_origin(kind) is Literal:
            return _kind_of(kind)
    return "text"
