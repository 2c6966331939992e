"""Random requests to two endpoints: one has plans, the other has graphql-core and Strawberry alone.

Their responses must have the same bytes.
"""

import json
from collections import Counter
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from graphql import (
    GraphQLError,
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    get_argument_values,
    get_named_type,
    get_variable_values,
    parse,
)

from campaign_gateway.api import queries, schema
from campaign_gateway.api.context import Context
from campaign_gateway.api.list_lengths import LIST_LENGTHS
from campaign_gateway.api.types import Requester
from campaign_gateway.model import Campaign
from campaign_gateway.observe.correlation import Correlation
from campaign_gateway.web.callers.caller import Caller, Right
from campaign_gateway.web.graphql_http.answer_budget import ANSWER_LIMIT, ANSWER_VALUES
from campaign_gateway.web.graphql_http.endpoint import Client, GraphQLOverHTTP
from campaign_gateway.web.graphql_http.plans import Plan, Resolved, make_plan
from campaign_gateway.web.graphql_http.writers import Attribute
from support.documents import Documents
from support.odd_world import ID, OddWorld

HEADERS = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/graphql-response+json"),
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
]


class Endpoint:
    """An endpoint whose resolvers see a world, and return what it has spoiled."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self.world = OddWorld(Random(0))
        self.rights = frozenset(Right)
        for root in (schema.query_type, schema.mutation_type):
            assert root is not None
            for name, field in root.fields.items():
                if name != "_service":
                    assert field.resolve is not None
                    field.resolve = self._spoiling(field.resolve)
        self._app = Correlation(GraphQLOverHTTP(schema, LIST_LENGTHS, self._context, self._client))

    def _spoiling(self, resolve: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *values, **arguments: self.world.spoiling(resolve(*values, **arguments))

    def _context(self, _request: object) -> Context:
        caller = Caller("web", "caller:web", frozenset("*"), self.rights)
        world: Any = self.world
        return Context(caller, world.accounts, world, world, 0)

    def _client(self, _request: object) -> Client:
        return Client("caller:web", Right.INTROSPECT in self.rights)

    async def post(self, query: str, variables: object = None) -> tuple[Any, bytes]:
        """Return the start of the response, and its body."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": HEADERS}
        with (
            patch.object(queries, "campaigns", self.world.campaigns),
            patch.object(queries, "preview", self.world.preview),
        ):
            await self._app(scope, receive, send)
        start, content = messages
        return start, content["body"]


@pytest.fixture(scope="module")
def planned() -> Endpoint:
    return Endpoint(schema.build_schema())


@pytest.fixture(scope="module")
def plain() -> Endpoint:
    with patch.object(schema, "call_directly"):
        return Endpoint(schema.build_schema())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what plans did: they made the data, or left an error or odd values to graphql-core."""
    counted: Counter[str] = Counter()
    make_data = Plan.data

    def data(plan: Plan, resolved: Resolved) -> dict[str, Any] | None:
        result = make_data(plan, resolved)
        counted["error" if resolved.error else "odd" if result is None else "data"] += 1
        return result

    monkeypatch.setattr(Plan, "data", data)
    return counted


@pytest.mark.parametrize(
    "numbers", [range(150), pytest.param(range(20_000), marks=pytest.mark.long)]
)
async def test_random_requests_get_the_same_bytes(
    planned: Endpoint, plain: Endpoint, made: Counter[str], numbers: range
) -> None:
    for number in numbers:
        random = Random(number)
        documents = Documents(planned.schema, random, mistakes=random.choice([0, 0, 0.05, 0.3]))
        text = documents.document()
        planned.rights = plain.rights = frozenset(
            right for right in Right if random.random() < 0.97
        )
        # More than once, because the endpoints keep documents.
        for _ in range(4):
            variables, world = documents.variables(), random.random()
            planned.world, plain.world = OddWorld(Random(world)), OddWorld(Random(world))
            response = await planned.post(text, variables)
            assert response == await plain.post(text, variables), (number, text, variables)
            # What a plan leaves to graphql-core must not be resolved again.
            assert planned.world.copies == plain.world.copies
    assert made["data"] > len(numbers)
    assert made["odd"] > len(numbers) / 8
    assert made["error"] > len(numbers) / 10


LARGE = "query Read($id: ID!) { duplication(id: $id) { campaign { name tags } id account } }"


@pytest.mark.parametrize(
    ("text", "tags", "limit"),
    [("x", (), ANSWER_LIMIT), ("\0", (), ANSWER_LIMIT // 6), ("", ("x",), ANSWER_VALUES)],
)
async def test_largest_response_is_the_same(
    planned: Endpoint, plain: Endpoint, text: str, tags: tuple[str, ...], limit: int
) -> None:
    async def post(endpoint: Endpoint, number: int) -> tuple[Any, bytes]:
        endpoint.world, endpoint.rights = OddWorld(Random(0)), frozenset(Right)
        campaign = Campaign("1", number * text, tags=number * tags)
        endpoint.world.record = endpoint.world.duplication(campaign)
        return await endpoint.post(LARGE, {"id": ID})

    fits, too_large = limit - 1000, limit
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        if b'"data":null' in (await post(plain, middle))[1]:
            too_large = middle
        else:
            fits = middle
    assert b"RESPONSE_TOO_LARGE" in (await post(planned, too_large))[1]
    for number in (fits, too_large):
        assert await post(planned, number) == await post(plain, number)


class WorldWithOneOddValue(OddWorld):
    """Its duplication has a campaign and an error, and one wrong attribute."""

    def __init__(self, attribute: str, value: object) -> None:
        super().__init__(Random(0))
        self.record = self.duplication(Campaign("1", tags=("a",)))
        self._attribute, self._value = attribute, value

    def spoil(self, value: Any) -> Any:
        owner = value.campaign if self._attribute == "tags" else value
        setattr(owner, self._attribute, self._value)
        return value


@pytest.mark.parametrize(
    ("attribute", "value", "selection"),
    [
        ("campaign", GraphQLError("odd"), "campaign { __typename }"),
        ("error", GraphQLError("odd"), "error { message }"),
        ("error", Requester(caller="odd", person=None), "error { __typename }"),
        ("tags", ["a", None], "campaign { tags }"),
        ("tags", ("a", "b"), "campaign { tags }"),
        ("status", None, "id campaign { id } status"),
        ("requested_at", None, "requestedAt"),
        ("evidence", "RESPONSE", "evidence"),
    ],
)
async def test_odd_value_gets_the_same_bytes(
    planned: Endpoint, plain: Endpoint, attribute: str, value: object, selection: str
) -> None:
    planned.rights = plain.rights = frozenset(Right)
    planned.world = plain.world = WorldWithOneOddValue(attribute, value)
    text = f'{{ duplication(id: "{ID}") {{ {selection} }} }}'
    assert await planned.post(text) == await plain.post(text)


def test_scalar_that_accepts_none_is_not_null() -> None:
    scalar = GraphQLScalarType("Text", coerce_output_value=str)
    attribute = Attribute(SimpleNamespace, "text")
    box = GraphQLObjectType(
        "Box", {"text": GraphQLField(GraphQLNonNull(scalar), resolve=attribute)}
    )
    tried = GraphQLSchema(GraphQLObjectType("Query", {"box": GraphQLField(box)}))
    document = parse("{ box { text } }")
    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    plan = make_plan(tried, document, operation)
    assert plan is not None
    assert plan.data(Resolved(SimpleNamespace(text=5))) == {"box": {"text": "5"}}
    assert plan.data(Resolved(SimpleNamespace(text=None))) is None


@pytest.mark.parametrize("declared", ["Int", "Int = 7", "Int!", "Int! = 7", "[Int!]"])
@pytest.mark.parametrize("variables", [{}, {"n": None}, {"n": 3}, {"n": "3"}, {"n": [1, None]}])
def test_arguments_are_those_of_graphql_core(declared: str, variables: dict[str, Any]) -> None:
    type_name = declared.partition(" =")[0]
    schema_of_box = f"type Query {{ box(n: {type_name.rstrip('!')} = 5): Int }}"
    compare_arguments(schema_of_box, declared, variables)


@pytest.mark.parametrize("choice", [{"a": 1}, {"a": None}, {"a": 1, "b": "x"}, {"z": 1}, {}, 5])
@pytest.mark.parametrize("declared", ["Choice", "Choice!"])
def test_choice_of_one_member_is_that_of_graphql_core(declared: str, choice: object) -> None:
    schema_of_box = "input Choice @oneOf { a: Int b: String } type Query { box(n: Choice): Int }"
    compare_arguments(schema_of_box, declared, {"n": choice})


def test_input_that_contains_itself_is_left_to_graphql_core() -> None:
    """The built-in providers have none, but a package may."""
    tried = build_schema("input Box { inner: Box } type Query { box(n: Box): Int }")
    document = parse("query Read($n: Box) { box(n: $n) }")
    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    assert make_plan(tried, document, operation) is None


def compare_arguments(schema_of_box: str, declared: str, variables: dict[str, Any]) -> None:
    tried = build_schema(schema_of_box)
    document = parse(f"query Read($n: {declared}) {{ box(n: $n) }}")
    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    plan = make_plan(tried, document, operation)
    assert plan is not None
    values = get_variable_values(tried, operation.variable_definitions or (), variables)
    expected = None
    if not isinstance(values, list):
        expected = get_argument_values(plan.field, plan.node, values)
    assert plan.arguments(variables) == expected


FRAGMENT = "fragment Made on Duplication { __typename id made: status campaign { id } }"
PLANNED = [
    f"query Read($id: ID!) {{ duplication(id: $id, waitSeconds: 1) {{ ...Made }} }} {FRAGMENT}",
    """mutation Copy($input: BrazeCampaignInput!) {
      duplicateCampaign(input: { braze: $input }, idempotencyKey: "k") {
        status userErrors { code } duplication { ... on Duplication { id } }
      }
    }""",
    "{ duplications(first: 5) { edges { cursor node { id } } pageInfo { hasNextPage } } }",
    "query Refer($r: [_Any!]!) { _entities(representations: $r) { __typename ...Made } }"
    + FRAGMENT,
    "{ accounts { name provider } }",
]


@pytest.mark.parametrize("text", PLANNED)
async def test_plan_covers_what_clients_send(
    planned: Endpoint, made: Counter[str], text: str
) -> None:
    """Otherwise no response would change, and each would cost more."""
    planned.world, planned.rights = OddWorld(Random(0)), frozenset(Right)
    variables = {
        "id": ID,
        "input": {"campaignId": "1", "name": "Spring"},
        "r": [{"__typename": "Duplication", "id": ID}],
    }
    _, body = await planned.post(text, variables)
    assert b'"errors"' not in body
    assert made == {"data": 1}


def every_field(type_: Any) -> str:
    """Return a selection of all fields of the type, and of what they contain."""
    named = get_named_type(type_)
    if not isinstance(named, GraphQLObjectType):
        return ""
    selected = (f"{name} {every_field(field.type)}" for name, field in named.fields.items())
    return f"{{ __typename {' '.join(selected)} }}"


async def test_plan_covers_every_field_of_the_mutation(
    planned: Endpoint, made: Counter[str]
) -> None:
    planned.world, planned.rights = OddWorld(Random(0)), frozenset(Right)
    payload = every_field(planned.schema.type_map["DuplicateCampaignPayload"])
    copy = "input: { sonarly: { campaignId: 1, accountGroupId: 1, audienceId: 1 } }"
    text = f'mutation {{ duplicateCampaign({copy}, idempotencyKey: "k") {payload} }}'
    await planned.post(text)
    assert made.total() == 1


async def test_short_document_has_no_large_plan(
    planned: Endpoint, plain: Endpoint, made: Counter[str]
) -> None:
    """Each of its aliases spreads a fragment whose aliases spread another one."""
    planned.world, plain.world = OddWorld(Random(0)), OddWorld(Random(0))
    planned.rights = plain.rights = frozenset(Right)

    def text(aliases: int) -> str:
        edges = " ".join(f"e{number}: edges {{ ...Edge }}" for number in range(aliases))
        nodes = " ".join(f"n{number}: node {{ ...Node }}" for number in range(aliases))
        return f"""{{ duplications(first: 1) {{ {edges} }} }}
          fragment Edge on DuplicationEdge {{ {nodes} }}
          fragment Node on Duplication {{ campaign {{ id name status providerStatus }} }}"""

    for aliases, plans in ((4, 1), (15, 0)):
        assert await planned.post(text(aliases)) == await plain.post(text(aliases))
        assert made.total() == plans
        made.clear()
