"""Run benchmarks and fuzzers as a user does, as child processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the checkout and return it with its output."""
    return subprocess.run(
        [sys.executable, program, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def figures_of(program: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """Return the figures in the last line of the program's output. Fails, with that output, if the program fails."""
    done = run(program, *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
