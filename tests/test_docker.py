"""The build files, as far as they can be checked without an engine: linted, and in step with the code."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import AppSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def services(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["services"]
    return found


def test_the_dockerfile_passes_hadolint() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["app", "worker"])
def test_compose_builds_what_the_dockerfile_has(name: str) -> None:
    build = services(ROOT / "docker-compose.yml")[name]["build"]
    assert (ROOT / build["dockerfile"]) == DOCKERFILE
    assert f" AS {build['target']}\n" in DOCKERFILE.read_text()


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker/gpu.yml"])
def test_compose_sets_only_what_there_is_to_set(file: str) -> None:
    fields = {"REDIS_URL"} | {
        f"WORDLIGHT_{name.upper()}" for kind in (AppSettings, WorkerSettings) for name in kind.model_fields
    }
    for service in services(ROOT / file).values():
        assert set(service.get("environment", {})) <= fields


def test_what_the_images_need_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == {
        "app",
        "jobs",
        "model",
        "worker",
        "wordlight",
        "constraints.txt",
        "pyproject.toml",
        "LICENSE",
        "README.md",
    }
    assert all((ROOT / name).exists() for name in sent)
