"""Dockerfile and docker-compose.yml: linters, and agreement with the code. No container engine is needed."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import AppSettings
from jobs.settings import QueueSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
BUILT = [name for name, service in SERVICES.items() if "build" in service]


def lint(*command: str | Path) -> None:
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def shell(service: str, *, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the shell command of a service, with its volumes in `folder`."""
    script = SERVICES[service]["command"][-1].replace("$$", "$").replace("/data/", f"{folder}/")
    return subprocess.run(["sh", "-ceu", script], env={**os.environ, **environment}, check=False, text=True)


def test_the_dockerfile_passes_hadolint() -> None:
    lint("hadolint", DOCKERFILE)


def test_compose_passes_its_linter() -> None:
    lint("compose-lint", "--fail-on", "high", ROOT / "docker-compose.yml")


@pytest.mark.parametrize("name", BUILT)
def test_compose_builds_targets_of_the_dockerfile(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (ROOT / build["dockerfile"]) == DOCKERFILE
    assert f" AS {build['target']}\n" in DOCKERFILE.read_text()


def test_compose_has_the_documented_services() -> None:
    assert set(SERVICES) == {"password", "valkey", "app", "proxy", "worker", "worker-gpu"}
    assert (SERVICES["worker"]["profiles"], SERVICES["worker-gpu"]["profiles"]) == (["cpu"], ["gpu"])
    assert "COMPOSE_PROFILES=cpu\n" in (ROOT / ".env").read_text()  # the default of `docker compose up`


@pytest.mark.parametrize("name", BUILT)
def test_compose_sets_only_existing_settings_to_valid_values(name: str) -> None:
    kind = AppSettings if name == "app" else WorkerSettings
    fields = {"REDIS_URL"} | {f"WORDLIGHT_{field.upper()}" for field in kind.model_fields}
    variables = SERVICES[name]["environment"]
    assert {variable.removesuffix("_FILE") for variable in variables} <= fields
    values = {variable: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for variable, value in variables.items()}
    names = {variable.removeprefix("WORDLIGHT_").lower(): value for variable, value in values.items()}
    names.pop("redis_url_file")
    kind(**names)  # type: ignore[arg-type]  # raises if a value is invalid


def test_env_file_and_compose_have_the_same_variables_and_defaults() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if line and not line.startswith("#")]
    defaults = dict(line.split("=", 1) for line in lines)
    assert defaults.pop("COMPOSE_PROFILES")
    assert dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text)) == defaults


@pytest.mark.parametrize("name", SERVICES)
def test_services_have_minimal_rights_and_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) <= ({"NET_BIND_SERVICE"} if name == "proxy" else set())
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    # Images that are built here have their user in the Dockerfile.
    assert service.get("user", "root") not in ("root", "0") or name in BUILT
    assert all(re.fullmatch(r"/\w+:size=\w+", mount) for mount in service.get("tmpfs", []))


def test_images_have_an_unprivileged_user_and_a_healthcheck() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for target in {SERVICES[name]["build"]["target"] for name in BUILT}:
        (stage,) = [stage for stage in stages if re.match(rf"\S+ AS {target}\n", stage)]
        assert "\nUSER 10001\n" in stage
        assert "\nHEALTHCHECK " in stage


def test_every_image_has_one_exact_version() -> None:
    bases = re.findall(r"^ARG PYTHON=(\S+)", DOCKERFILE.read_text(), flags=re.MULTILINE)
    images = [f"python:{tag}" for tag in bases]
    images += [service["image"] for name, service in SERVICES.items() if name not in BUILT]
    assert len(images) == 4
    assert all(re.search(r":\d+\.\d+\.\d+", image) for image in images)


def test_the_queue_is_persistent_and_never_evicts() -> None:
    lines = [line.split(maxsplit=1) for line in (ROOT / "docker/valkey.conf").read_text().splitlines() if line]
    settings = {line[0]: line[1] for line in lines}
    assert settings["appendonly"] == "yes"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["include"] == "/run/wordlight/password.conf"


def test_the_password_is_created_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell("password", folder=tmp_path).returncode == 0
    url, conf = (tmp_path / "redis_url").read_text(), (tmp_path / "password.conf").read_text()
    match = re.fullmatch(r"redis://:([0-9a-f]{64})@valkey:6379/0\n", url)
    assert match
    assert conf == f"requirepass {match[1]}\n"
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "redis_url": 0o444,
        "password.conf": 0o444,
    }
    assert shell("password", folder=tmp_path).returncode == 0
    assert (tmp_path / "redis_url").read_text() == url
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "redis_url"))
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert QueueSettings().redis_url == url.strip()


def test_the_backup_script_has_valid_syntax() -> None:
    done = subprocess.run(["sh", "-n", ROOT / "docker/backup.sh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("extra", ["app", "worker"])
def test_the_dependency_layer_matches_pyproject(extra: str) -> None:
    program = ROOT / "docker/requirements.py"
    done = subprocess.run([sys.executable, program, extra], cwd=ROOT, capture_output=True, text=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert done.stdout.splitlines() == project["dependencies"] + project["optional-dependencies"][extra]
    assert any(line.startswith("torch") for line in done.stdout.splitlines()) == (extra == "worker")


def test_the_build_context_has_what_the_images_need() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == {
        "app",
        "jobs",
        "model",
        "worker",
        "wordlight",
        "docker/requirements.py",
        "constraints.txt",
        "pyproject.toml",
        "LICENSE",
        "README.md",
    }
    assert all((ROOT / name).exists() for name in sent)
