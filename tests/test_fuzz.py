"""The upload path under bad treatment: short forms of two benchmarks, and what they have found."""

from pathlib import Path

import httpx
import pytest
from support.benchmark import figures_of
from support.command import Service


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
