"""`dryRun`: what a copy would be. Nothing is sent and nothing is recorded."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.connectors.contract import ActivatesCopies, ReadsCampaigns
from campaign_gateway.connectors.registry import CONNECTORS
from support.calling import SOURCE, CalledGateway, called_gateway, sonarly_input
from support.edge import Edge

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREVIEW = """
  status replayed campaign { id } warnings { code } duplication { id }
  userErrors { code message field retry }
  campaignUrl source { id name status } requestedBy { caller }
  preview { account provider name mayStartActive source { account id provider name status }
    request { method host path } }
"""
DRY_RUN = f"""mutation Look($input: DuplicateCampaignInput!, $key: String = "key") {{
  duplicateCampaign(input: $input, idempotencyKey: $key, dryRun: true) {{ {PREVIEW} }} }}"""
KEYS = "query Keys($key: String!) { duplicationByKey(idempotencyKey: $key) { id } }"


async def looked(gateway: Edge, provider: str, key: str) -> Any:
    account = next(
        name
        for name, account in gateway.sandbox.settings.accounts.items()
        if account.provider == provider
    )
    fields = f'account: "{account}" {CONNECTORS[provider].example}'
    document = f"""mutation {{ duplicateCampaign(
      input: {{ {provider}: {{ {fields} }} }} idempotencyKey: {json.dumps(key)} dryRun: true
    ) {{ {PREVIEW} }} }}"""
    return (await gateway.data(document))["duplicateCampaign"]


@pytest.mark.parametrize("provider", CONNECTORS)
async def test_dry_run_shows_the_copy_and_makes_none(gateway: Edge, provider: str) -> None:
    before, key = gateway.copies_asked_for(), str(uuid.uuid4())
    payload = await looked(gateway, provider, key)
    assert payload["userErrors"] == []
    assert payload["status"] == "NOT_SENT"
    assert payload["campaign"] is payload["duplication"] is None
    preview = payload["preview"]
    assert preview["provider"] == provider.upper()
    emulator = gateway.sandbox.emulators[provider].removeprefix("http://")
    request = preview["request"]
    assert f"{request['host']}{request['path']}".startswith(emulator)
    assert "?" not in request["path"]
    if issubclass(CONNECTORS[provider], ReadsCampaigns):
        assert preview["source"]["id"] in CONNECTORS[provider].example
        assert preview["source"]["account"] == preview["account"]
        assert payload["source"] == {
            name: preview["source"][name] for name in ("id", "name", "status")
        }
    else:
        assert preview["source"] is payload["source"] is None
    assert payload["campaignUrl"] is payload["requestedBy"] is None
    if not issubclass(CONNECTORS[provider], ActivatesCopies):
        assert preview["mayStartActive"] is False
    assert gateway.copies_asked_for() == before
    assert await gateway.data(KEYS, {"key": key}) == {"duplicationByKey": None}


async def test_dry_run_needs_no_key_and_leaves_a_used_one_alone(gateway: Edge) -> None:
    copy = DRY_RUN.replace(", dryRun: true", "")
    variables = {"input": sonarly_input("Look first"), "key": str(uuid.uuid4())}
    made = (await gateway.data(copy, variables))["duplicateCampaign"]
    assert made["status"] == "CREATED"
    assert made["preview"] is None
    for key in (variables["key"], "", "ü"):
        looked = (await gateway.data(DRY_RUN, {**variables, "key": key}))["duplicateCampaign"]
        assert (looked["status"], looked["replayed"]) == ("NOT_SENT", False)
        assert looked["preview"]["name"] == "Look first"
        assert looked["preview"]["source"]["id"] == SOURCE


async def test_missing_source_is_an_error_that_names_the_field(gateway: Edge) -> None:
    missing = sonarly_input("Copy", source="507f1f77bcf86cd7994390ff")
    payload = (await gateway.data(DRY_RUN, {"input": missing}))["duplicateCampaign"]
    (error,) = payload["userErrors"]
    assert error["code"] == "CAMPAIGN_NOT_FOUND"
    assert error["field"] == ["input", "sonarly", "campaignId"]
    assert payload["preview"]["source"] is None
    assert payload["preview"]["request"]["method"] == "POST"


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"accountGroupId": "no id"}, "INVALID_INPUT", "accountGroupId"),
        ({"account": "nobody's"}, "UNKNOWN_ACCOUNT", "account"),
        ({"name": "n" * 5000}, "INVALID_INPUT", "name"),
    ],
)
async def test_wrong_input_is_refused_as_a_copy_refuses_it(
    gateway: Edge, fields: dict[str, object], code: str, field: str
) -> None:
    wrong = {"input": {"sonarly": {**sonarly_input("Copy")["sonarly"], **fields}}}
    payload = (await gateway.data(DRY_RUN, wrong))["duplicateCampaign"]
    assert payload["preview"] is None
    (error,) = payload["userErrors"]
    assert (error["code"], error["field"]) == (code, ["input", "sonarly", field])
    copy = DRY_RUN.replace(", dryRun: true", "")
    refused = (await gateway.data(copy, wrong))["duplicateCampaign"]
    assert refused["userErrors"] == payload["userErrors"]


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rights = {
        "reader": ["read"],
        "copier": ["copy"],
        "both": ["copy", "read"],
    }
    tables = {name: {"accounts": "*", "may": may} for name, may in rights.items()}
    folder: Path = tmp_path_factory.mktemp("callers")
    with called_gateway(folder, tables, ["sonarly", "meta"]) as running:
        yield running


def look(callers: CalledGateway, caller: str, copy_input: dict[str, Any]) -> Any:
    return callers.client(caller).data(DRY_RUN, input=copy_input)["duplicateCampaign"]


async def test_dry_run_needs_the_rights_of_a_copy_and_shows_what_may_be_read(
    callers: CalledGateway,
) -> None:
    refused = look(callers, "reader", sonarly_input("Copy"))
    assert [error["code"] for error in refused["userErrors"]] == ["NOT_ALLOWED"]
    assert refused["preview"] is None
    unread = look(callers, "copier", sonarly_input("Copy"))
    assert unread["userErrors"] == []
    assert unread["preview"]["source"] is None
    assert look(callers, "both", sonarly_input("Copy"))["preview"]["source"]["id"] == SOURCE


async def test_dry_run_of_an_active_copy_needs_the_right_to_activate(
    callers: CalledGateway,
) -> None:
    active = {"meta": {"campaignId": "23842588888640185", "statusOption": "INHERITED_FROM_SOURCE"}}
    refused = look(callers, "both", active)
    assert [error["code"] for error in refused["userErrors"]] == ["NOT_ALLOWED"]


async def test_unreachable_provider_is_an_error_of_the_source_alone(tmp_path: Path) -> None:
    account = {
        "provider": "sonarly",
        "base_url": "http://127.0.0.1:9",
        "api_key": "secret-of-the-account",
        "timeout_seconds": 5,
    }
    everybody = {"team": {"accounts": "*", "may": ["copy", "read"]}}
    with called_gateway(tmp_path, everybody, [], accounts={"away": account}) as running:
        response = running.client("team").post(DRY_RUN, input=sonarly_input("Copy"))
    payload = response.json()["data"]["duplicateCampaign"]
    assert [error["code"] for error in payload["userErrors"]] == ["PROVIDER_UNAVAILABLE"]
    assert payload["preview"]["request"]["host"] == "127.0.0.1:9"
    assert "secret-of-the-account" not in response.text
