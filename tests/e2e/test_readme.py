"""The README says only what works: its mutations are run, its tables compared with the code."""

import json
import re
import tomllib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest

from campaign_gateway.api.context import CAMPAIGN_LIMIT, ENTITY_LIMIT
from campaign_gateway.api.enums import DuplicateCampaignStatus
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.graphql_http import limits, request
from campaign_gateway.graphql_http.variables import VARIABLE_VALUE_LIMIT
from campaign_gateway.model import ErrorCode, Retry, WarningCode
from campaign_gateway.settings import LedgerSettings, ServerSettings, parse_settings
from support.plain import NO_CAS

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


MUTATIONS = [each for each in blocks("graphql") if each.startswith("mutation")]
INPUTS = [
    each.strip()
    for block in blocks("graphql")
    for each in re.split(r"^input: ", block, flags=re.MULTILINE)[1:]
]


def execute(url: str, document: str, **variables: str) -> Any:
    body = {"query": document, "variables": variables}
    answer = httpx.post(
        f"{url}/graphql", json=body, timeout=30, trust_env=False, verify=NO_CAS
    ).json()
    assert "errors" not in answer
    return answer["data"]


def test_there_is_an_input_for_every_provider() -> None:
    for provider in CONNECTORS:
        assert any(f" {provider}: {{" in each for each in [*MUTATIONS, *INPUTS])


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_each_mutation_runs(sandbox_url: str, mutation: str) -> None:
    payload = execute(sandbox_url, mutation, key=str(uuid.uuid4()))["duplicateCampaign"]
    assert payload["status"] in {"CREATED", "ACCEPTED"}
    assert payload["userErrors"] == []


@pytest.mark.parametrize("given", INPUTS)
def test_each_input_is_taken(sandbox_url: str, given: str) -> None:
    # Where there are several accounts of a provider.
    given = given.replace("{ altcraft: {", '{ altcraft: { account: "altcraft"')
    given = given.replace("{ klaviyo: {", '{ klaviyo: { account: "klaviyo"')
    document = (
        "mutation Copy($key: String!) {"
        f" duplicateCampaign(input: {given}, idempotencyKey: $key)"
        " { status campaign { name } warnings { code } userErrors { code message field } } }"
    )
    payload = execute(sandbox_url, document, key=str(uuid.uuid4()))["duplicateCampaign"]
    assert payload["userErrors"] == []
    assert payload["warnings"] == []
    assert payload["status"] in {"CREATED", "ACCEPTED"}
    assert payload["campaign"]["name"] in given


def test_the_query_waits_for_a_copy_that_is_promised(sandbox_url: str) -> None:
    (query,) = (each for each in blocks("graphql") if each.startswith("query"))
    (mutation,) = (each for each in MUTATIONS if " braze: {" in each)
    made = execute(sandbox_url, mutation, key=str(uuid.uuid4()))["duplicateCampaign"]
    assert made["status"] == "ACCEPTED"
    found = execute(sandbox_url, query, id=made["duplication"]["id"])["duplication"]
    assert found["status"] == "CREATED"


LIMITS = {
    "tokens in the document; comments": [limits.TOKEN_LIMIT, limits.COMMENT_LIMIT],
    "operations; fields at the top of one": [limits.OPERATION_LIMIT, limits.ROOT_FIELD_LIMIT],
    "levels of fields": [limits.DEPTH_LIMIT],
    "aliases; directives; fragments; fragment spreads": [
        limits.ALIAS_LIMIT,
        limits.DIRECTIVE_LIMIT,
        limits.FRAGMENT_LIMIT,
        limits.SPREAD_LIMIT,
    ],
    "fields of one name": [limits.SAME_FIELD_LIMIT],
    "values in the variables": [VARIABLE_VALUE_LIMIT],
    "values in the answer, taking lists as long as they may be": [limits.VALUE_LIMIT],
    "entities to resolve; campaigns to read at providers": [ENTITY_LIMIT, CAMPAIGN_LIMIT],
}


def test_the_table_of_limits_is_true() -> None:
    number = r"\d+(?:,\d{3})*"
    rows = dict(
        re.findall(rf"^\| ([a-z][a-z ;,]+) \| ({number}(?:; {number})*)", README, re.MULTILINE)
    )
    shown = {name: "; ".join(f"{each:,}" for each in LIMITS[name]) for name in LIMITS}
    assert {name: rows.get(name) for name in LIMITS} == shown
    assert request.REQUEST_LIMIT == 64 * 1024


def test_the_curl_command_runs(sandbox_url: str, shell: Callable[[str], str]) -> None:
    (command,) = [block for block in blocks("sh") if block.startswith("curl")]
    answer = json.loads(shell(command.replace("http://127.0.0.1:8000", sandbox_url)))
    assert answer["data"]["duplicateCampaign"]["status"] == "ACCEPTED"


def test_the_configuration_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text, ledger = blocks("toml")
    text = text.replace("/etc/ssl/company-ca.pem", certifi.where())
    for name in re.findall(r'env = "(\w+)"', text):
        monkeypatch.setenv(name, "key-us21")
    settings = parse_settings(tomllib.loads(text), {})
    assert {each.provider for each in settings.accounts.values()} == set(CONNECTORS)
    defaults = LedgerSettings()
    assert settings.ledger == defaults
    assert settings.server == ServerSettings()
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@host/database")
    others = {name: table for name, table in tomllib.loads(text).items() if name != "ledger"}
    settings = parse_settings({**others, **tomllib.loads(ledger)}, {})
    assert settings.ledger.url.get_secret_value() == "postgresql://user:password@host/database"


def test_the_table_of_codes_is_whole() -> None:
    table = README[README.index("| `code` | What to do |") :].split("\n\n")[0]
    assert re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE) == list(ErrorCode)


def test_the_table_of_retries_is_whole() -> None:
    table = README[README.index("| `retry` | means | the client |") :].split("\n\n")[0]
    assert re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE) == list(Retry)


def test_the_table_of_warnings_is_whole() -> None:
    table = README[README.index("| warning | means |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)) == set(WarningCode)


def test_the_table_of_statuses_is_whole() -> None:
    table = README[README.index("| `status` | means |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)) == set(
        DuplicateCampaignStatus
    )
