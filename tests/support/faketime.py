"""Gives a process a wrong wall clock, with Debian's libfaketime."""

import os
from pathlib import Path

import pytest

FAKETIME = ("libfaketimeMT.so.1", "libfaketime.so.1")


def fake_clock(seconds: int) -> dict[str, str]:
    """Return an environment that shifts the wall clock of a process, not its monotonic clock."""
    return {
        "LD_PRELOAD": str(_libfaketime()),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _libfaketime() -> Path:
    for name in FAKETIME:
        for libraries in Path("/usr/lib").glob(f"*/faketime/{name}"):
            return libraries
    reason = "there is no libfaketime on this machine; Debian has it as the package faketime"
    if "CAMPAIGN_GATEWAY_REQUIRE_FAKETIME" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)
