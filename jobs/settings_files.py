"""Settings from files, for what should not stand in an environment: passwords, and secrets to sign with.

In: for any setting X, the path of a file in X_FILE, as REDIS_URL_FILE; out: the file's text as the value of X, without
the line break at its end. It must not know which settings there are.
"""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

_MOST_BYTES = 64 * 1024


class SettingsFiles(EnvSettingsSource):
    """Reads the file that the environment names for a setting."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The text of the setting's file, where there is one. Raises ValueError, with one line that says why not."""
        for key, variable, is_complex in self._extract_field_info(field, field_name):
            path = self.env_vars.get(f"{variable}_file")
            if path is not None:
                name = variable.upper()
                if variable in self.env_vars:
                    raise ValueError(f"{name} and {name}_FILE are both set: which of them holds?")
                return _text(f"{name}_FILE", Path(path)), key, is_complex
        return None, field_name, False


def _text(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name}: {path} is no text in UTF-8") from None
    if not text or len(content) > _MOST_BYTES:
        raise ValueError(f"{name}: {path} is {'empty' if not text else 'too large for a setting'}")
    return text
