"""Generate the synchronous client from the asynchronous one.

Run as a program (`make client`), it writes wordlight/client/synchronous.py.
"""

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "wordlight/client"
SOURCE, TARGET = CLIENT / "asynchronous.py", CLIENT / "synchronous.py"

_DOCSTRING = '"""Client: the client for programs without an event loop. `make client` generates this file."""'
_REPLACEMENTS = (
    (r'\A""".*"""', _DOCSTRING),
    (r"^import asyncio\n", ""),
    (r"asyncio\.sleep", "time.sleep"),
    (r"\b(async|await) ", ""),
    (r"Awaitable\[(\w+)\]", r"\1"),
    (r"\bAwaitable, ", ""),
    (r"\bAsync(Client|Iterator)\b", r"\1"),
    (r"\b(__)?a(enter|exit|close|read)(__)?\b", lambda found: f"{found[1] or ''}{found[2]}{found[3] or ''}"),
)


def synchronous(source: str) -> str:
    """Convert the source of the asynchronous client."""
    for pattern, replacement in _REPLACEMENTS:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    for arguments in (("check", "--select", "I,UP028", "--fix", "--unsafe-fixes", "--quiet"), ("format",)):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(TARGET), "-"]
        source = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    return source


if __name__ == "__main__":
    TARGET.write_text(synchronous(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
