"""Fixtures for tests of the command line."""

import pytest
from support.in_process import run as run
from support.programs import installed


@pytest.fixture(scope="session")
def exiftool() -> str:
    """The path of ExifTool. Without it, the tests are skipped, or fail in CI."""
    return installed(
        "exiftool",
        "NO EXIFTOOL: metadata was not tested (Debian: apt-get install libimage-exiftool-perl)",
        "WORDLIGHT_REQUIRE_EXIFTOOL",
    )
