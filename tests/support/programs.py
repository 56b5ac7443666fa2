"""Programs that some tests need and that no Python package installs."""

import os
import shutil

import pytest


def installed(program: str, reason: str, required: str) -> str:
    """Return the program's path. Without it, skip the test, or fail if the variable `required` is set, as in CI."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get(required):
            pytest.fail(reason)
        pytest.skip(reason)
    return path
