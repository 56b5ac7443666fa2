"""The upload path with mutated requests and hostile files: bounded runs of the fuzzers, and what they found."""

from pathlib import Path

import httpx
import pytest
from support.benchmark import figures_of
from support.command import Service


@pytest.mark.slow
def test_every_fuzzed_request_gets_a_response_without_a_crash(tmp_path: Path) -> None:
    figures = figures_of("tests/fuzz/uploads.py", "--inputs", "4000", "--seed", "20", "--failures", str(tmp_path))
    assert figures["inputs"] == 4000
    assert figures["failures"] == 0
    assert figures["answers"]["200"] + figures["answers"]["202"] > 200, "some uploads are valid"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_hostile_file_gets_a_response_that_fits_its_kind() -> None:
    figures = figures_of("tests/fuzz/hostile_files.py")
    assert figures["files"] >= 300
    assert set(figures["answers"]) == {"202", "415", "422"}


@pytest.mark.parametrize("charset", ["undefined", "idna", "bogus"])
def test_an_unusable_charset_of_a_form_is_a_client_error(service: Service, charset: str) -> None:
    disposition = b'--b\r\nContent-Disposition: form-data; name="caf\xc3\xa9"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"}
    answer = httpx.post(f"{service.url}/v1/captions", content=disposition, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
