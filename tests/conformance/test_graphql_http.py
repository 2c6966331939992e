"""Audits GraphQL over HTTP with npm's package graphql-http."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.node import run_node

SCRIPT = Path(__file__).with_name("audit.mjs")

AUDITS = {"MUST": 13, "SHOULD": 23, "MAY": 25}


@pytest.fixture(scope="module")
def audits(sandbox_url: str) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = run_node(SCRIPT, f"{sandbox_url}/graphql")
    return results


def test_all_61_audits_run(audits: list[dict[str, Any]]) -> None:
    assert len({audit["id"] for audit in audits}) == 61
    assert Counter(audit["name"].split()[0] for audit in audits) == AUDITS


def test_all_audits_pass(audits: list[dict[str, Any]]) -> None:
    failed = [audit for audit in audits if audit["status"] != "ok"]
    assert not failed, "\n".join(
        f"{audit['id']} {audit['name']}: {audit['reason']}" for audit in failed
    )
