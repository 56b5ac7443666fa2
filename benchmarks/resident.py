"""What Linux knows of processes: their memory, and whose children they are. In: process ids; out: numbers."""

import re
from pathlib import Path


def memory_mib(pid: int) -> dict[str, float]:
    """Resident memory, now and at most since the process began."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE))
    return {"now": int(found["VmRSS"]) / 1024, "peak": int(found["VmHWM"]) / 1024}


def children(pid: int) -> set[int]:
    """The processes that this one has started and that are still there."""
    tasks = Path(f"/proc/{pid}/task")
    return {int(child) for path in tasks.glob("*/children") for child in path.read_text().split()}


def command_line(pid: int) -> list[str]:
    """What the process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
