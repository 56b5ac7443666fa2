"""`wordlight bench`: lists the programs in benchmarks/, and runs them.

In: names, and options that are passed on; out: what the programs print, and the worst exit status. They are part of a
checkout, not of the installed package. It must not know what they measure.
"""

import argparse
import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wordlight.failure import fail

if TYPE_CHECKING:
    from wordlight.learning import AddCommand

_ROOT = Path(__file__).parent.parent
_BENCHMARKS = _ROOT / "benchmarks"
_RUNS = 'if __name__ == "__main__":'


def add_bench(command: "AddCommand") -> None:
    """Add the command."""
    bench = command("bench", _bench)
    bench.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="NAME … [OPTION …]",
        help="programs to run, one after the other, and options for them; without any: list the programs",
    )


def programs(folder: Path) -> dict[str, str]:
    """The programs in `folder` by name, each with the first line of its docstring; modules for them are left out."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if _RUNS in source:
            found[path.stem] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return found


def _bench(arguments: argparse.Namespace) -> int:
    """run benchmarks of a checkout; options after the names go to them"""
    found = programs(_BENCHMARKS)
    if not found:
        fail(f"there is no {_BENCHMARKS}: benchmarks come with the source, not with the installed package")
    words: list[str] = arguments.words
    options = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    names = words[:options]
    if unknown := [name for name in names if name not in found]:
        fail(f"there is no benchmark {unknown[0]!r}: `wordlight bench` lists them")
    if not names:
        width = max(map(len, found))
        for name, description in found.items():
            print(f"{name:{width}}  {description}")
    return max((_run(name, words[options:]) for name in names), default=0)


def _run(name: str, options: list[str]) -> int:
    """The exit status of one program."""
    # The packages beside benchmarks/ are those to be measured, wherever others are installed.
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, str(_BENCHMARKS / f"{name}.py"), *options], env=environment).returncode
