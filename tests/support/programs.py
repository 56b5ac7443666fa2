"""Programs that some tests need and that no Python package brings."""

import os
import shutil

import pytest


def installed(program: str, without: str, required: str) -> str:
    """The program's path. `without` it the test is skipped, or fails where the variable `required` is set, as in CI."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get(required):
            pytest.fail(without)
        pytest.skip(without)
    return path
