"""The unit for systemd in the README: systemd accepts it, and it allows a stop its time."""

import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from campaign_gateway import app
from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.ledger import postgres
from campaign_gateway.observe import traces
from campaign_gateway.web.server import server
from support.commands import run
from support.readmes import READMES

(UNIT,) = READMES["src/campaign_gateway/web/server/README.md"].blocks("ini")


def option(section: str, name: str) -> str:
    # A unit may have an option twice, which this one does not.
    parser = ConfigParser(interpolation=None)
    parser.read_string(UNIT)
    return parser[section][name]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        assert "CAMPAIGN_GATEWAY_REQUIRE_SYSTEMD" not in os.environ
        pytest.skip("there is no systemd-analyze on this machine")
    command = option("Service", "ExecStart").split()[0]
    unit = tmp_path / "campaign-gateway.service"
    # It looks whether the program exists.
    unit.write_text(UNIT.replace(command, sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_starts_a_command_that_exists() -> None:
    _, *arguments = option("Service", "ExecStart").split()
    assert arguments[:2] == ["serve", "--config"]
    done = run(*arguments[:2], "/no/such/gateway.toml")
    assert done.returncode == 1
    assert "/no/such/gateway.toml" in done.stderr


def test_unit_allows_a_stop_its_time() -> None:
    timeout = AccountSettings.model_fields["timeout_seconds"].default
    longest_stop = (
        server.NOTICE_SECONDS
        + timeout
        + app.DRAIN_SLACK
        + server.GRACE_SECONDS
        + app.BACKGROUND_TASK_SECONDS
        + postgres.CLOSE_SECONDS
        + traces.STOP_SECONDS
    )
    assert longest_stop <= float(option("Service", "TimeoutStopSec"))
    text = READMES["src/README.md"].text
    assert re.search(r"longest `timeout_seconds` plus forty\s+seconds", text)
    assert longest_stop - timeout <= 40
