"""`wordlight bench`: lists and runs the programs in benchmarks/, which are part of a checkout, not of the package."""

import argparse
import ast
import os
import subprocess
import sys
from pathlib import Path

from wordlight.commands.options import AddCommand
from wordlight.terminal import fail

_ROOT = Path(__file__).parents[2]
_BENCHMARKS = _ROOT / "benchmarks"
_RUNS = 'if __name__ == "__main__":'


def add_bench(command: AddCommand) -> None:
    """Add the command."""
    bench = command("bench", _bench)
    bench.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="NAME … [OPTION …]",
        help="programs to run in this order, and options for them; without names: list the programs",
    )


def programs(folder: Path) -> dict[str, str]:
    """Map the names of the programs in `folder` to the first lines of their docstrings."""
    descriptions = {}
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if _RUNS in source:
            descriptions[path.stem] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return descriptions


def _bench(arguments: argparse.Namespace) -> int:
    """run benchmarks of a checkout; options after the names are passed to them"""
    descriptions = programs(_BENCHMARKS)
    if not descriptions:
        fail(f"there is no {_BENCHMARKS}: benchmarks come with the source, not with the installed package")
    words: list[str] = arguments.words
    options = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
    names = words[:options]
    if unknown := [name for name in names if name not in descriptions]:
        fail(f"there is no benchmark {unknown[0]!r}: `wordlight bench` lists them")
    if not names:
        width = max(map(len, descriptions))
        for name, description in descriptions.items():
            print(f"{name:{width}}  {description}")
    return max((_run(name, words[options:]) for name in names), default=0)


def _run(name: str, options: list[str]) -> int:
    """Run one program and return its exit status."""
    # Measure the packages of this checkout, even if others are installed.
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, str(_BENCHMARKS / f"{name}.py"), *options], env=environment).returncode
