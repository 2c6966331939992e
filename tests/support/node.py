"""Runs the JavaScript of the tests, if the machine has Node.js and its packages."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

TESTS = Path(__file__).parents[1]


def run_node(script: Path, *arguments: str, seconds: float = 120) -> Any:
    """Return the JSON document that a script prints. It writes everything else to stderr."""
    # The scripts fetch from servers on this machine only.
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [node(), script, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, (
        f"{script.name} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    )
    return json.loads(done.stdout)


def node() -> str:
    """Return the path of Node.js. If something is missing, skip the test, or fail it in CI."""
    executable = shutil.which("node")
    if executable is None:
        _give_up("there is no Node.js on this machine")
    if not (TESTS / "node_modules").is_dir():
        _give_up(f"its packages are not installed; run: npm install --prefix {TESTS}")
    return executable


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CAMPAIGN_GATEWAY_REQUIRE_NODE"):
        pytest.fail(reason)
    pytest.skip(reason)
