"""The arrows of the house: app → jobs ← worker → model, and nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"app", "jobs", "worker", "model", "wordlight"}
ALLOWED = {"app": {"jobs"}, "jobs": set(), "worker": {"jobs", "model"}, "model": set()}
# What a package must never load, whoever wrote it.
FORBIDDEN = {
    "app": {"torch", "torchvision", "timm", "safetensors"},
    "jobs": {"fastapi", "starlette", "torch", "PIL"},
    "worker": {"fastapi", "starlette", "uvicorn"},
    "model": {"fastapi", "starlette", "uvicorn", "redis"},
}


def imported_packages(path: Path) -> set[str]:
    """The top-level names that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_run_one_way(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    for module in modules:
        imported = imported_packages(module)
        assert imported & OURS <= ALLOWED[package] | {package}, module
        assert not imported & FORBIDDEN[package], module


def test_app_runs_where_there_is_no_torch() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'model', 'worker'):\n"
        "    sys.modules[name] = None\n"
        "from app.main import create_app\n"
        "from app.settings import AppSettings\n"
        "print(len(create_app(AppSettings()).openapi()['paths']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5


@pytest.mark.parametrize(
    "command",
    ["serve", "api", "worker", "keys", "jobs", "caption", "train", "evaluate", "family", "levers", "gradients"],
)
def test_help_loads_no_heavy_library(command: str) -> None:
    program = (
        "import sys\n"
        f"sys.argv = ['wordlight', '{command}', '--help']\n"
        "from wordlight.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "assert not {'torch', 'fastapi', 'timm'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout
