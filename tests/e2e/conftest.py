"""The commands as a user starts them, each in a process of its own."""

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
    """Runs a line with curl in it as somebody would who pastes it, and gives what it prints."""
    if shutil.which("curl") is None and "CAMPAIGN_GATEWAY_REQUIRE_BROWSER" not in os.environ:
        pytest.skip("there is no curl on this machine")

    def run(line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout

    return run
