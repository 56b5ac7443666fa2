"""Benchmarks as their users run them: in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run(benchmark: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in benchmarks/, with what it said."""
    return subprocess.run(
        [sys.executable, f"benchmarks/{benchmark}.py", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def figures_of(benchmark: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """The figures that a benchmark ends with; fails with all that it said if it found anything."""
    done = run(benchmark, *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
