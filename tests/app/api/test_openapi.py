"""The API against its OpenAPI document: schemathesis makes requests from it and checks the responses."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.command import Service

TESTS = Path(__file__).parents[2]


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as http:
        yield http


@pytest.mark.slow
def test_every_response_conforms_to_openapi(service: Service, tmp_path: Path) -> None:
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(TESTS / "support/schemathesis.toml")),
            *("run", f"{service.url}/openapi.json", "--checks", "all", "--continue-on-failure", "--max-failures", "99"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "25", "--seed", "1"),
        ],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "support.contract_hooks", "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Traceback" not in (log := "\n".join(service.command.lines)), log


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/captions", "GET, POST"),
        ("/v1/captions/x", "DELETE, GET"),
        ("/v1/captions/x/cancel", "POST"),
        ("/healthz", "GET, HEAD"),
        ("/static/js/app.js", "GET, HEAD"),
    ],
)
def test_a_405_names_every_method_of_the_path(client: httpx.Client, path: str, allowed: str) -> None:
    answer = client.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
