"""Python's gql with a running gateway and the schema that the gateway serves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXTransport
from graphql import GraphQLError, GraphQLInputObjectType, parse, print_ast, separate_operations

from support.intents import INPUTS, STATUSES, intent, with_two_members

SOURCE = (Path(__file__).parent / "operations.graphql").read_text("utf-8")
OPERATIONS = {
    name: print_ast(document) for name, document in separate_operations(parse(SOURCE)).items()
}

TWO_MEMBERS = """mutation { duplicateCampaign(
  input: { braze: { campaignId: "a", name: "b" }, altcraft: OTHER }, idempotencyKey: "k"
) { status } }"""


@pytest.fixture
def client(sandbox_url: str) -> Iterator[Any]:
    """A session. `input_object_one_of` lets the client query which inputs are @oneOf."""
    # Without `trust_env`, because a proxy of the environment does not lead to this machine.
    transport = HTTPXTransport(url=f"{sandbox_url}/graphql", timeout=30, trust_env=False)
    with Client(
        transport=transport,
        fetch_schema_from_transport=True,
        introspection_args={"input_object_one_of": True},
        execute_timeout=None,
    ) as session:
        yield session


def ask(client: Any, operation: str, variables: dict[str, Any]) -> Any:
    request = GraphQLRequest(OPERATIONS[operation], variable_values=variables)
    (field,) = client.execute(request).values()
    return field


def test_fetched_schema_marks_the_input_as_one_of(client: Any) -> None:
    chosen = client.client.schema.type_map["DuplicateCampaignInput"]
    assert isinstance(chosen, GraphQLInputObjectType)
    assert chosen.is_one_of


@pytest.mark.parametrize("account", INPUTS)
def test_copy_at_each_provider_succeeds_and_its_retry_is_replayed(
    client: Any, account: str
) -> None:
    wanted = intent(account)
    first = ask(client, "Copy", wanted)
    again = ask(client, "Copy", wanted)
    assert (first["status"], first["userErrors"]) == (STATUSES[account], [])
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert again["duplication"]["id"] == first["duplication"]["id"]
    if account != "braze":
        assert first["campaign"]["account"] == account


def test_rejection_is_data_and_no_error(client: Any) -> None:
    payload = ask(client, "Copy", intent("braze", campaignId="not-found"))
    assert payload["status"] == "REJECTED"
    (error,) = payload["userErrors"]
    assert error["code"] == "CAMPAIGN_NOT_FOUND"


@pytest.mark.parametrize("other", ["null", "{ campaignId: 1 }"])
def test_two_members_are_refused_before_anything_is_sent(client: Any, other: str) -> None:
    # This is the message of the client's own rule. The gateway has another message.
    with pytest.raises(GraphQLError, match="exactly one field must be specified"):
        client.execute(GraphQLRequest(TWO_MEMBERS.replace("OTHER", other)))


@pytest.mark.parametrize("other", [None, *INPUTS["sonarly"].values()], ids=["null", "two"])
def test_two_members_by_variables_are_refused_by_the_gateway(client: Any, other: object) -> None:
    with pytest.raises(TransportQueryError, match=r"takes exactly one of \w+(, \w+)+\."):
        ask(client, "Copy", with_two_members(other))


def test_one_query_waits_for_the_copy(client: Any) -> None:
    copy = ask(client, "Copy", intent("braze"))
    assert copy["status"] == "ACCEPTED"
    settled = ask(client, "Wait", {"id": copy["duplication"]["id"], "seconds": 20})
    assert settled["status"] == "CREATED"
    assert settled["campaign"]["account"] == "braze"
