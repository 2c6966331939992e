"""Starts the commands as a user starts them, each in its own process."""

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from support.commands import running


@pytest.fixture(name="running")
def running_fixture() -> object:
    return running


@pytest.fixture
def shell() -> Callable[[str], str]:
    """Runs a command line as if it were pasted into a terminal, and returns its output."""

    def run(line: str) -> str:
        is_required = "CAMPAIGN_GATEWAY_REQUIRE_BROWSER" in os.environ
        if line.startswith("curl ") and shutil.which("curl") is None and not is_required:
            pytest.skip("there is no curl on this machine")
        done = subprocess.run(
            ["sh", "-c", line], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    return run
