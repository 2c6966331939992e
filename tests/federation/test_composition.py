"""Each public composer composes our subgraph with another one."""

from pathlib import Path
from typing import Any

import graphql
import httpx
import pytest

from support.commands import run
from support.node import run_node
from support.plain import NO_CAS

SCRIPT = Path(__file__).with_name("composition.mjs")

INPUT = "DuplicateCampaignInput"


@pytest.fixture(scope="module")
def served_sdl(sandbox_url: str) -> str:
    """The SDL that the running gateway serves to a composer."""
    body = {"query": "{ _service { sdl } }"}
    response = httpx.post(f"{sandbox_url}/graphql", json=body, trust_env=False, verify=NO_CAS)
    sdl: str = response.json()["data"]["_service"]["sdl"]
    return sdl


def test_schema_command_prints_the_sdl_that_the_gateway_serves(served_sdl: str) -> None:
    assert run("schema", "--federation").stdout == served_sdl + "\n"


@pytest.fixture(scope="module", params=["apollo", "guild", "cosmo"])
def composer(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def composed(composer: str, served_sdl: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("subgraph") / "campaigns.graphql"
    file.write_text(served_sdl, "utf-8")
    return run_node(SCRIPT, composer, str(file))


def test_subgraphs_compose_without_a_warning(composed: Any) -> None:
    assert composed["remarks"] == []
    client = graphql.build_schema(composed["client"])
    assert graphql.validate_schema(client) == []


def test_both_subgraphs_have_the_keys_of_each_entity(composed: Any) -> None:
    assert sorted(composed["keys"]) == [
        "campaigns: Campaign by account id",
        "campaigns: Duplication by id",
        "reviews: Campaign by account id",
        "reviews: Duplication by id",
    ]


def test_client_schema_has_the_fields_of_both_subgraphs(composed: Any) -> None:
    client = graphql.build_schema(composed["client"])
    assert client.query_type
    assert client.mutation_type
    assert {"duplication", "campaign", "reviewed", "approved"} <= set(client.query_type.fields)
    assert not [name for name in client.query_type.fields if name.startswith("_")]
    (mutation,) = client.mutation_type.fields.values()
    names = {"input", "idempotencyKey", "overrideDuplicationId", "dryRun"}
    assert set(mutation.args) == names
    campaign = client.type_map["Campaign"]
    assert isinstance(campaign, graphql.GraphQLObjectType)
    assert {"providerStatus", "headline"} <= set(campaign.fields)


def test_all_composers_except_apollo_keep_one_of(composed: Any, composer: str) -> None:
    # Apollo's composer drops @oneOf. So the subgraph itself must refuse two members, and clients of
    # the supergraph have only the description.
    survives = composer != "apollo"
    assert is_marked(composed["supergraph"]) is survives
    assert is_marked(composed["client"]) is survives
    description = graphql.build_schema(composed["client"]).type_map[INPUT].description or ""
    assert "exactly one member" in description


def is_marked(sdl: str) -> bool:
    (definition,) = (
        definition
        for definition in graphql.parse(sdl).definitions
        if isinstance(definition, graphql.InputObjectTypeDefinitionNode)
        and definition.name.value == INPUT
    )
    return "oneOf" in [directive.name.value for directive in definition.directives or ()]
