"""How large inputs and responses may be, and what a request may cost."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import pytest
import pytest_asyncio
from graphql import GraphQLError

from campaign_gateway.api.schema import federation_sdl
from campaign_gateway.connectors import parsing
from campaign_gateway.connectors.building import NAME_LENGTH, TEXT_LENGTH
from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.web.graphql_http import load
from campaign_gateway.web.graphql_http.answer_budget import ANSWER_LIMIT, ANSWER_VALUES
from campaign_gateway.web.graphql_http.limits import ALIAS_LENGTH, VALUE_LIMIT
from campaign_gateway.web.graphql_http.load import Load
from campaign_gateway.web.graphql_http.request import RequestError
from campaign_gateway.web.graphql_http.variables import without_value
from support.edge import Edge, edge

# One sandbox for all tests, so its event loop must live longer than each of them.
pytestmark = pytest.mark.asyncio(loop_scope="module")

COPY = """mutation Copy($input: DuplicateCampaignInput!, $key: String!) {
  duplicateCampaign(input: $input, idempotencyKey: $key) {
    status duplication { id requestedName } userErrors { code message field retry }
  }
}"""
SOURCE = "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10"
TWO_BYTES = "é"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with edge(tmp_path_factory.mktemp("sizes")) as running:
        yield running


async def copy(gateway: Edge, **chosen: object) -> Any:
    data = await gateway.data(COPY, {"input": chosen, "key": str(uuid.uuid4())})
    return data["duplicateCampaign"]


def braze(**fields: object) -> dict[str, object]:
    return {"campaignId": SOURCE, "name": "Copy", **fields}


async def test_name_of_a_thousand_characters_is_copied_and_a_longer_one_is_refused(
    gateway: Edge,
) -> None:
    name = TWO_BYTES * NAME_LENGTH
    made = await copy(gateway, braze=braze(name=name))
    assert made["status"] == "ACCEPTED"
    assert made["duplication"]["requestedName"] == name
    asked = gateway.copies_asked_for()
    refused = await copy(gateway, braze=braze(name=name + "x"))
    (error,) = refused["userErrors"]
    assert (error["code"], error["field"]) == ("INVALID_INPUT", ["input", "braze", "name"])
    assert str(NAME_LENGTH) in error["message"]
    assert refused["duplication"] is None
    assert gateway.copies_asked_for() == asked


@pytest.mark.parametrize(
    ("chosen", "field"),
    [
        ({"braze": braze(description="x" * (TEXT_LENGTH + 1))}, ["input", "braze", "description"]),
        ({"braze": braze(tagNames=["a", "x" * (TEXT_LENGTH + 1)])}, ["input", "braze", "tagNames"]),
        ({"braze": braze(campaignId="x" * 129)}, ["input", "braze", "campaignId"]),
        # Each text is short enough, and all of them together are not.
        ({"braze": braze(tagNames=["x" * 4000] * 9)}, ["input"]),
        ({"braze": braze(description=TWO_BYTES * TEXT_LENGTH, tagNames=["é" * 900])}, ["input"]),
        (
            {
                "hubspot": {
                    "campaignId": "4f3b2a1c-0d9e-4c8b-a7f6-e5d4c3b2a190",
                    "kind": "CAMPAIGN",
                    "name": "Copy",
                    "assets": [{"type": "x" * (TEXT_LENGTH + 1), "ids": ["1"]}],
                }
            },
            ["input", "hubspot", "assets"],
        ),
    ],
)
async def test_input_with_a_text_that_is_too_long_is_refused_before_anything_is_sent(
    gateway: Edge, chosen: Any, field: list[str]
) -> None:
    asked = gateway.copies_asked_for()
    refused = await copy(gateway, **chosen)
    (error,) = refused["userErrors"]
    assert (error["code"], error["field"]) == ("INVALID_INPUT", field)
    assert refused["duplication"] is None
    assert gateway.copies_asked_for() == asked


async def test_long_texts_of_a_provider_are_cut() -> None:
    fields = parsing.CampaignFields({}, description="description", tags="tags")
    body = {
        "id": "c1",
        "name": "x" * 100_000,
        "description": TWO_BYTES * 100_000,
        "tags": ["t" * 1000] * 1000,
    }
    response = ProviderResponse(200, {}, json.dumps(body).encode())
    campaign = fields.parse(parsing.json_object(response))
    assert campaign is not None
    assert campaign.name == "x" * parsing.TEXT_LENGTH + "..."
    assert campaign.description == TWO_BYTES * parsing.TEXT_LENGTH + "..."
    assert campaign.tags is not None
    assert len(campaign.tags) == parsing.TAG_LIMIT
    assert set(campaign.tags) == {"t" * parsing.TAG_LENGTH + "..."}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def long_name(gateway: Edge) -> str:
    """The id of a duplication whose name takes 2,000 bytes."""
    made = await copy(gateway, braze=braze(name=TWO_BYTES * NAME_LENGTH))
    return str(made["duplication"]["id"])


async def repeated(gateway: Edge, duplication_id: str, times: int) -> httpx.Response:
    """Ask for 30 names of each of so many entities."""
    names = " ".join(f"n{number}: requestedName" for number in range(30))
    query = f"""query Q($r: [_Any!]!) {{
      _entities(representations: $r) {{ ... on Duplication {{ {names} }} }} }}"""
    references = [{"__typename": "Duplication", "id": duplication_id}] * times
    return await gateway.post(query, {"r": references})


async def test_response_beyond_two_mebibytes_is_an_error_that_says_what_to_do(
    gateway: Edge, long_name: str
) -> None:
    whole = await repeated(gateway, long_name, 33)
    assert "errors" not in whole.json()
    assert 1_900_000 < len(whole.content) <= ANSWER_LIMIT
    refused = await repeated(gateway, long_name, 100)
    answer = refused.json()
    (error,) = answer["errors"]
    assert answer["data"] is None
    assert refused.status_code == 200
    assert error["extensions"] == {"code": "RESPONSE_TOO_LARGE"}
    assert "smaller page" in error["message"]
    assert error["path"][0] == "_entities"
    assert len(refused.content) < 1000


async def test_values_are_counted_while_the_response_is_made(gateway: Edge) -> None:
    """Its lists are longer than on average, so the count of the document is too low."""
    names = " ".join(f"n{number}: name" for number in range(18))
    inner = "type { kind name ofType { kind name ofType { kind name } } }"
    fragment = "fragment F on __Type { inputFields { type { inputFields { NAMES INNER } } } }"
    fields = " ".join(
        f'r{number}: __type(name: "DuplicateCampaignInput") {{ ...F }}' for number in range(10)
    )
    query = f"{{ {fields} }} {fragment.replace('NAMES', names).replace('INNER', inner)}"
    (error,) = (await gateway.post(query)).json()["errors"]
    assert error["extensions"] == {"code": "RESPONSE_TOO_LARGE"}
    assert str(ANSWER_VALUES) in error["message"]


async def test_length_of_an_alias_is_limited(gateway: Edge) -> None:
    """A response repeats it for each item of a list, and in the path of each error."""
    alias = "a" * ALIAS_LENGTH
    assert await gateway.data(f"{{ {alias}: __typename }}")
    (message,) = await gateway.refused(f"{{ {alias}a: __typename }}")
    assert "129 characters in one alias. The limit is 128." in message


def cpu_of(work: Any) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


async def test_message_about_a_variable_takes_linear_time() -> None:
    error = GraphQLError("Value '" + "cannot represent " * 3800 + "' does not exist in 'X' enum.")
    # It took half a second.
    assert cpu_of(lambda: without_value(error)) < 0.05
    assert without_value(GraphQLError("Int cannot represent non-integer value: 'a: b'")) == (
        "Int cannot represent non-integer value."
    )


LARGE = """{ duplications(first: 100) { edges { node {
  id status account provider evidence requestedAt settledAt requestedName sourceCampaignId
} } } }"""


async def test_gateway_refuses_more_large_requests_than_it_can_answer_soon(
    gateway: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "VALUES_IN_PROGRESS", 10_000)
    answers = await asyncio.gather(*(gateway.post(LARGE) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    (error,) = refused.json()["errors"]
    assert error["extensions"] == {"code": "OVERLOADED"}
    assert "Nothing was executed" in error["message"]
    assert (await gateway.post(LARGE)).status_code == 200


async def test_request_counts_as_much_as_its_variables_ask_for(
    gateway: Edge, monkeypatch: pytest.MonkeyPatch, long_name: str
) -> None:
    """Routers send all references in a variable. Most requests have one, and none has them all."""
    monkeypatch.setattr(load, "VALUES_IN_PROGRESS", 500)
    page = LARGE.replace(
        "{ duplications(first: 100)", "query Q($n: Int!) { duplications(first: $n)"
    )
    for length, status in ((3, 200), (100, 503)):
        assert (await gateway.post(page, {"n": length})).status_code == status
    for times, status in ((1, 200), (30, 503)):
        assert (await repeated(gateway, long_name, times)).status_code == status


async def test_schema_of_the_subgraph_is_printed_once(
    gateway: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may ask for it under many aliases, and each time would take 4 ms."""
    printed: list[object] = []
    monkeypatch.setattr("strawberry.federation.schema.print_schema", printed.append)
    aliases = " ".join(f"a{number}: sdl" for number in range(20))
    data = await gateway.data(f"{{ _service {{ {aliases} }} }}")
    assert set(data["_service"].values()) == {federation_sdl().strip("\n")}
    assert printed == []


async def test_other_work_is_done_between_two_large_requests() -> None:
    """Each of them takes the event loop for as long as its response takes."""
    events: list[str] = []
    carried = Load()

    async def large(name: str) -> None:
        async with carried.admit(name, VALUE_LIMIT):
            events.append(name[0])

    async def other() -> None:
        for _ in range(4):
            events.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(large("a"), large("b"), large("c"), other())
    joined = "".join(events).replace("other", "-")
    assert re.search("a-+b-+c", joined), joined
    results = await asyncio.gather(
        *(large(f"x{number}") for number in range(11)), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None)] * 9 + [RequestError] * 2
    assert events.count("x") == 9


async def test_one_client_leaves_room_for_others() -> None:
    """A few requests that ask for much can also wait for 20 seconds."""
    carried = Load()
    async with AsyncExitStack() as in_progress:

        async def admits(client: str, cost: int) -> bool:
            try:
                await in_progress.enter_async_context(carried.admit(client, cost))
            except RequestError:
                return False
            return True

        assert [await admits("a", VALUE_LIMIT) for _ in range(8)] == [True] * 7 + [False]
        small = [await admits("a", 1) for _ in range(101)]
        assert small == [True] * 100 + [False]
        assert [await admits("b", VALUE_LIMIT) for _ in range(2)] == [True, False]
        assert await admits("c", VALUE_LIMIT)
    async with carried.admit("a", VALUE_LIMIT):
        pass


async def test_several_greedy_clients_leave_room_for_another_one() -> None:
    carried = Load()
    async with AsyncExitStack() as in_progress:
        for number in range(4000):
            with suppress(RequestError):
                await in_progress.enter_async_context(carried.admit(f"greedy{number % 3}", 1))
        async with carried.admit("modest", 2000):
            pass


SURROGATE = "\ud800"


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (COPY, {"input": {SURROGATE: {}}, "key": "k"}),
        (COPY, {"input": {"braze": {SURROGATE: 1}}, "key": "k"}),
        (COPY, {"input": {"altcraft": {"campaignId": 1, "kind": SURROGATE}}, "key": "k"}),
        (
            "query Q($f: DuplicationFilter) { duplications(filter: $f) { __typename } }",
            {"f": {"status": SURROGATE}},
        ),
        (f'{{ campaign(account: "{SURROGATE}", id: 1) {{ id }} }}', None),
    ],
)
async def test_lone_surrogates_are_replaced(gateway: Edge, query: str, variables: Any) -> None:
    response = await gateway.post(query, variables)
    assert "errors" in response.json()
    text = response.content.decode("utf-8", "strict")
    assert "\\ud800" not in text.lower()
    assert not any("\ud800" <= character <= "\udfff" for character in str(response.json()))
