"""A gateway in an environment with the sample package, as its users meet it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import graphql
import httpx
import pytest

from support.commands import Command
from support.packages import add_acme, add_package

# An interpreter of its own, which finds the packages in the folder.
AS_INSTALLED = ("-P", "-m", "campaign_gateway")

COPY = """
mutation { duplicateCampaign(
  input: { acme: { campaignId: "spring", name: "Second wave" } }, idempotencyKey: "acme-1"
) { status campaign { name provider } duplication { provider } userErrors { message } } }
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    add_acme(folder)
    add_package(folder, "broken", {"broken": "broken:Connector"}, "raise OSError('no licence')")
    return folder


def command(site: Path, *arguments: str) -> Command:
    environment = {"PYTHONPATH": str(site)}
    return Command(*arguments, environment=environment, launcher=AS_INSTALLED)


@pytest.fixture(scope="module")
def sandbox(site: Path) -> Iterator[Command]:
    running = command(site, "sandbox", "--port", "0")
    try:
        running.wait_for("Ctrl-C stops the sandbox", 120)
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="module")
def url(sandbox: Command) -> str:
    return sandbox.wait_for(r"GraphiQL +(http://\S+)/graphiql")[1]


def execute(url: str, query: str) -> Any:
    response = httpx.post(f"{url}/graphql", json={"query": query}, timeout=30)
    assert "errors" not in response.json()
    return response.json()["data"]


def test_sandbox_has_the_emulator_of_the_package(sandbox: Command) -> None:
    assert re.search(
        r"^acme +acme +CREATED +\w+ +Spring sale, second wave$", sandbox.output, re.MULTILINE
    )
    assert "the sandbox has no broken of broken 2.0.0 cannot be imported" in sandbox.output


def test_campaign_is_copied_at_the_provider_of_the_package(url: str) -> None:
    payload = execute(url, COPY)["duplicateCampaign"]
    assert payload == {
        "status": "CREATED",
        "campaign": {"name": "Second wave", "provider": "ACME"},
        "duplication": {"provider": "ACME"},
        "userErrors": [],
    }
    filtered = execute(
        url, "{ duplications(filter: {provider: ACME}) { edges { node { provider } } } }"
    )
    assert len(filtered["duplications"]["edges"]) == 2


def test_schema_has_the_input_of_the_package(url: str) -> None:
    introspection = execute(url, graphql.get_introspection_query())
    schema = graphql.build_client_schema(introspection)
    members = schema.type_map["DuplicateCampaignInput"]
    assert isinstance(members, graphql.GraphQLInputObjectType)
    assert str(members.fields["acme"].type) == "AcmeCampaignInput"
    assert members.fields["acme"].description == "Copy a campaign at Acme Mail."
    assert "broken" not in members.fields
    providers = schema.type_map["Provider"]
    assert isinstance(providers, graphql.GraphQLEnumType)
    assert providers.values["ACME"].description == "By the connector of acme-gateway 1.0.0."


def test_graphiql_has_the_example_of_the_package(url: str) -> None:
    tabs = httpx.get(f"{url}/graphiql/examples.json").json()["tabs"]
    (tab,) = (tab for tab in tabs if "CopyAtAcmeMail" in tab["query"])
    assert tab["outcomes"]["rate-limited"] == "429, too many requests"
    assert "Acme Mail" in httpx.get(url).text


def test_readyz_names_the_package(url: str) -> None:
    assert httpx.get(f"{url}/readyz").text.splitlines() == [
        "ready",
        "connector: acme of acme-gateway 1.0.0",
    ]


def test_gateway_with_a_wrong_package_does_not_start(site: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[accounts.main]\nprovider = "broken"\n', "utf-8")
    serving = command(site, "serve", "--config", str(config), "--port", "0")
    assert serving.process.wait(60) == 1
    serving.kill()
    serving.wait_for(
        "accounts.main.provider: broken of broken 2.0.0 cannot be imported: OSError: no licence"
    )
