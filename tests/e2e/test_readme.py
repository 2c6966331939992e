"""The README says only what works: its mutations are run, its tables compared with the code."""

import json
import re
import tomllib
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from campaign_gateway.connectors import CONNECTORS
from campaign_gateway.outcomes import DuplicationStatus, ErrorCode, UserError
from campaign_gateway.settings import LedgerSettings, parse_settings

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_there_is_a_mutation_for_every_provider() -> None:
    for provider in CONNECTORS:
        assert any(f" {provider}: {{" in mutation for mutation in blocks("graphql"))


@pytest.mark.parametrize("mutation", blocks("graphql"))
def test_each_mutation_runs(sandbox_url: str, mutation: str) -> None:
    body = {"query": mutation, "variables": {"key": str(uuid.uuid4())}}
    answer = httpx.post(f"{sandbox_url}/graphql", json=body, timeout=30, trust_env=False).json()
    payload = answer["data"]["duplicateCampaign"]
    assert payload["status"] in {"CREATED", "ACCEPTED"}
    assert payload["userErrors"] == []


def test_the_curl_command_runs(sandbox_url: str, shell: Callable[[str], str]) -> None:
    (command,) = [block for block in blocks("sh") if block.startswith("curl")]
    answer = json.loads(shell(command.replace("http://127.0.0.1:8000", sandbox_url)))
    assert answer["data"]["duplicateCampaign"]["status"] == "ACCEPTED"


def test_the_configuration_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text, ledger = blocks("toml")
    for name in ("BRAZE_EU_API_KEY", "SONARLY_API_KEY", "ALTCRAFT_TOKEN"):
        monkeypatch.setenv(name, "key")
    settings = parse_settings(tomllib.loads(text), {})
    assert {each.provider for each in settings.accounts.values()} == set(CONNECTORS)
    defaults = LedgerSettings()
    assert settings.ledger == defaults
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@host/database")
    others = {name: table for name, table in tomllib.loads(text).items() if name != "ledger"}
    settings = parse_settings({**others, **tomllib.loads(ledger)}, {})
    assert settings.ledger.url.get_secret_value() == "postgresql://user:password@host/database"


def test_the_table_of_codes_is_whole_and_true() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (true|false) \|", README, re.MULTILINE))
    expected = {
        code: "true" if UserError(code, "").safe_to_retry else "false" for code in ErrorCode
    }
    assert rows == expected


def test_the_table_of_statuses_is_whole() -> None:
    table = README[README.index("| `status` | means |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)) == set(DuplicationStatus)
