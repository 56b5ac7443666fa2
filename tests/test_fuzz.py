"""The upload path under bad treatment: short forms of two benchmarks, and what they have found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from command import Service

ROOT = Path(__file__).parent.parent


def figures_of(benchmark: str, *arguments: str) -> dict[str, Any]:
    """The figures that a benchmark ends with; fails with all that it said if it found anything."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{benchmark}.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@pytest.mark.slow
def test_no_input_crashes_the_web_process_or_goes_unanswered(tmp_path: Path) -> None:
    figures = figures_of("fuzz_uploads", "--inputs", "4000", "--seed", "20", "--failures", str(tmp_path))
    assert figures["inputs"] == 4000
    assert figures["failures"] == 0
    assert figures["answers"]["200"] + figures["answers"]["202"] > 200, "some were good"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_kind_of_hostile_file_is_answered_as_it_should_be() -> None:
    figures = figures_of("hostile_files")
    assert figures["files"] >= 300
    assert set(figures["answers"]) == {"202", "415", "422"}


@pytest.mark.parametrize("charset", ["undefined", "idna", "bogus"])
def test_the_charset_of_a_form_breaks_nothing(service: Service, charset: str) -> None:
    disposition = b'--b\r\nContent-Disposition: form-data; name="caf\xc3\xa9"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"}
    answer = httpx.post(f"{service.url}/v1/captions", content=disposition, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
