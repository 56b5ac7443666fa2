"""Imports between packages (app → jobs ← worker → model), and the layers inside app and model."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"app", "jobs", "worker", "model", "wordlight"}
ALLOWED = {"app": {"jobs"}, "jobs": set(), "worker": {"jobs", "model"}, "model": set()}
# The modules that the client shares with the service.
CONTRACT = {"jobs.job", "jobs.options", "jobs.problem"}
# Third-party packages that a package must never import.
FORBIDDEN = {
    "app": {"torch", "torchvision", "timm", "safetensors"},
    "jobs": {"fastapi", "starlette", "torch", "PIL"},
    "worker": {"fastapi", "starlette", "uvicorn"},
    "model": {"fastapi", "starlette", "uvicorn", "redis"},
}


# The layers inside a package, lowest first. A module or subpackage imports only from lower layers, and nothing of its
# own layer.
LAYERS: dict[str, list[set[str]]] = {
    "app": [
        {"images", "rendering", "problems", "probe"},
        {"settings"},
        {"http", "uploads", "outbound", "notifications"},
        {"access"},
        {"services"},
        {"api"},
        {"main"},
    ],
    "model": [{"files", "text"}, {"network"}, {"decoding"}, {"runtime"}, {"training"}, {"evaluation"}],
}


def imported_modules(path: Path) -> set[str]:
    """Return all modules that a module may import: `from a.b import c` gives a.b and a.b.c."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported_packages(path: Path) -> set[str]:
    """Return the top-level packages that a module imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports must be absolute"
            names.add((node.module or "").partition(".")[0])
    return names


def run_without(modules: Sequence[str], program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in which these modules cannot be imported."""
    missing = f"import sys\nfor name in {tuple(modules)}:\n    sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", missing + program], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_allowed_packages(package: str) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    for module in modules:
        imported = imported_packages(module)
        assert imported & OURS <= ALLOWED[package] | {package}, module
        assert not imported & FORBIDDEN[package], module


@pytest.mark.parametrize("package", LAYERS)
def test_modules_import_only_lower_layers(package: str) -> None:
    layers = {name: number for number, names in enumerate(LAYERS[package]) for name in names}
    folder = ROOT / package
    members = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert members - {"__init__"} == set(layers)
    for module in sorted(folder.rglob("*.py")):
        member = module.relative_to(folder).parts[0].removesuffix(".py")
        if member == "__init__":
            continue
        for name in imported_modules(module):
            imported = name.split(".")[1:2] if name.startswith(f"{package}.") else []
            for other in {*imported} & {*layers} - {member}:
                assert layers[other] < layers[member], f"{module} imports {name}"


def test_the_client_imports_only_the_contract() -> None:
    modules = sorted((ROOT / "wordlight/client").rglob("*.py"))
    assert modules
    for module in modules:
        tree = ast.parse(module.read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours = {name for name in imported if name and name.partition(".")[0] in OURS}
        assert {name for name in ours if not name.startswith("wordlight.client")} <= CONTRACT, module
    done = run_without(
        ("torch", "PIL", "fastapi", "starlette", "redis", "pebble", "app", "worker", "model"),
        "from wordlight.client import AsyncClient, Client\nClient().close()\n",
    )
    assert done.returncode == 0, done.stderr


def test_caption_with_a_server_needs_no_torch_and_no_web_framework() -> None:
    done = run_without(
        ("torch", "torchvision", "timm", "PIL", "fastapi", "starlette", "pebble", "worker"),
        "sys.argv = ['wordlight', 'caption', 'a.jpg', '--server', 'somewhere']\n"
        "from wordlight.cli import main\n"
        "main()\n",
    )
    assert done.returncode == 1
    assert done.stderr.startswith("wordlight: 'somewhere' is not the address of a service"), done.stderr


def test_app_runs_without_torch() -> None:
    done = run_without(
        ("torch", "torchvision", "timm", "model", "worker"),
        "from app.main import create_app\n"
        "from app.settings import AppSettings\n"
        "print(len(create_app(AppSettings()).openapi()['paths']))\n",
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5


@pytest.mark.parametrize(
    "command",
    [
        *("serve", "api", "worker", "keys", "jobs", "config", "caption", "explain", "bulk", "completion"),
        *("dataset", "train", "evaluate", "family", "gradients"),
    ],
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
        "heavy = {'torch', 'fastapi', 'timm', 'PIL', 'httpx2', 'tqdm', 'shtab', 'ray', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout
