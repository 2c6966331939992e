"""@oneOf, after the GraphQL specification of September 2025: the result of each kind of request."""

import uuid
from typing import Any

import pytest

from campaign_gateway.api.schema import client_sdl
from campaign_gateway.connectors.registry import CONNECTORS
from support.edge import Edge

# One server for all tests, so its event loop must live longer than each of them.
pytestmark = pytest.mark.asyncio(loop_scope="module")

TYPE = "DuplicateCampaignInput"
MEMBERS = sorted(CONNECTORS)

COPY: dict[str, Any] = {
    "accountGroupId": "507f1f77bcf86cd799439001",
    "campaignId": "507f1f77bcf86cd799439011",
    "audienceId": "507f1f77bcf86cd799439021",
}
SONARLY = (
    '{ accountGroupId: "507f1f77bcf86cd799439001", campaignId: "507f1f77bcf86cd799439011",'
    ' audienceId: "507f1f77bcf86cd799439021" }'
)
BRAZE = '{ campaignId: "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10", name: "Second" }'


def field(value: str) -> str:
    arguments = f'input: {value}, idempotencyKey: "KEY"'
    return f"duplicateCampaign({arguments}) {{ status userErrors {{ message }} }}"


def mutation(value: str, variables: str = "") -> str:
    return f"mutation Copy{f'({variables})' if variables else ''} {{ {field(value)} }}"


BY_MEMBER = field("{ sonarly: $c }")
FRAGMENT = f"fragment Copying on Mutation {{ {BY_MEMBER} }}"
CHAIN = f"fragment Outer on Mutation {{ ...Copying }} {FRAGMENT}"
USING = "mutation Copy($c: SonarlyCampaignInput!) { ...Copying }"


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        pytest.param(mutation(f"{{ sonarly: {SONARLY} }}"), {}, id="literal"),
        pytest.param(
            mutation("$i", f"$i: {TYPE}!"), {"i": {"sonarly": COPY}}, id="the input as a variable"
        ),
        pytest.param(
            mutation("$i", f"$i: {TYPE}!"),
            {"i": {"sonarly": {**COPY, "name": None}}},
            id="null inside the member",
        ),
        pytest.param(
            mutation("$i", f"$i: {TYPE}! = {{ sonarly: {SONARLY} }}"), {}, id="input by default"
        ),
        # With a default, a nullable variable is allowed where null is not.
        pytest.param(
            mutation("$i", f"$i: {TYPE} = {{ sonarly: {SONARLY} }}"),
            {},
            id="nullable input by default",
        ),
        pytest.param(
            mutation("$i", f"$i: {TYPE}! = {{ braze: {BRAZE} }}"),
            {"i": {"sonarly": COPY}},
            id="another member than the default's",
        ),
        pytest.param(
            mutation("{ sonarly: $c }", "$c: SonarlyCampaignInput!"),
            {"c": COPY},
            id="the member as a variable",
        ),
        pytest.param(
            mutation("{ sonarly: $c }", f"$c: SonarlyCampaignInput! = {SONARLY}"),
            {},
            id="the member by default",
        ),
        pytest.param(
            mutation("{ sonarly: $c }", f"$c: SonarlyCampaignInput! = {SONARLY}"),
            {"c": {**COPY, "name": "Other"}},
            id="the member in place of its default",
        ),
        pytest.param(
            mutation(f"{{ sonarly: {SONARLY[:-1]} name: $n }} }}", "$n: String"),
            {},
            id="an optional part left out",
        ),
        pytest.param(
            mutation(f"{{ sonarly: {SONARLY[:-1]} name: null }} }}"), {}, id="an optional part null"
        ),
        pytest.param(f"{USING} {FRAGMENT}", {"c": COPY}, id="fragment after the operation"),
        pytest.param(f"{FRAGMENT} {USING}", {"c": COPY}, id="fragment before the operation"),
        pytest.param(
            f"{CHAIN} {USING.replace('...Copying', '...Outer')}",
            {"c": COPY},
            id="fragment in a fragment",
        ),
        pytest.param(
            f"mutation Copy($c: SonarlyCampaignInput!) {{ ... on Mutation {{ {BY_MEMBER} }} }}",
            {"c": COPY},
            id="inline fragment",
        ),
        pytest.param(
            "mutation Copy($c: SonarlyCampaignInput!, $yes: Boolean!) "
            f"{{ ... @include(if: $yes) {{ {BY_MEMBER} }} }}",
            {"c": COPY, "yes": True},
            id="inline fragment without a type",
        ),
        pytest.param(
            f"query Other {{ __typename }} {FRAGMENT} {USING}", {"c": COPY}, id="next to a query"
        ),
        pytest.param(
            f"{FRAGMENT} {USING} mutation Again($c: SonarlyCampaignInput!) {{ ...Copying }}",
            {"c": COPY},
            id="two operations that share a fragment",
        ),
        pytest.param(
            f"{mutation(f'{{ sonarly: {SONARLY} }}')} "
            f"mutation Other($c: BrazeCampaignInput!) {{ {field('{ braze: $c }')} }}",
            {},
            id="two operations that use other members",
        ),
    ],
)
async def test_input_with_exactly_one_member_makes_a_copy(
    gateway: Edge, query: str, variables: dict[str, Any]
) -> None:
    before = gateway.copies_asked_for()
    # With the same key, the result would be the copy of an earlier test.
    data = await gateway.data(query.replace("KEY", str(uuid.uuid4())), variables, "Copy")
    assert data == {"duplicateCampaign": {"status": "CREATED", "userErrors": []}}
    assert gateway.copies_asked_for() == before + 1


WRONG_LITERALS = [
    ("{}", "Received: none."),
    ("{ sonarly: null }", "Received: sonarly as null. Omit members that are null."),
    ("{ altcraft: null, braze: null, sonarly: null }", "altcraft as null, braze as null"),
    (f"{{ sonarly: {SONARLY}, braze: {BRAZE} }}", "Received: sonarly, braze."),
    (f"{{ sonarly: {SONARLY}, braze: null }}", "Received: sonarly, braze as null. Omit members"),
    (f"{{ braze: null, sonarly: {SONARLY} }}", "Received: braze as null, sonarly. Omit members"),
    ("{ sonarly: {}, braze: {}, altcraft: {} }", "Received: sonarly, braze, altcraft."),
    ("{ mailer: {} }", "Received: mailer."),
    ("{ mailer: null }", "Received: mailer as null."),
    ("{ Sonarly: {} }", "Received: Sonarly."),
    (f"{{ sonarly: {SONARLY}, mailer: {{}} }}", "Received: sonarly, mailer."),
    (f"{{ sonarly: {SONARLY}, mailer: null }}", "Received: sonarly, mailer as null."),
    (f"{{ mailer: 1, sonarly: {SONARLY} }}", "Received: mailer, sonarly."),
    (f"{{ sonarly: {SONARLY}, sonarly: {SONARLY} }}", "Received: sonarly, sonarly."),
    (f"{{ {'abcdefgh' * 40}: 1 }}", "abcdefgh..."),
    (f"{{ {' '.join(f'm{number}: 1' for number in range(40))} }}", "and more"),
]


def is_about_members(message: str, received: str) -> bool:
    rule = f"{TYPE} takes exactly one of {', '.join(MEMBERS)}."
    return rule in message and received in message and len(message) < 400


@pytest.mark.parametrize(("literal", "received"), WRONG_LITERALS)
async def test_literal_without_exactly_one_member_is_refused(
    gateway: Edge, literal: str, received: str
) -> None:
    before = gateway.copies_asked_for()
    in_fragment = f"fragment Copying on Mutation {{ {field(literal)} }}"
    for query, operation in (
        (mutation(literal), "Copy"),
        (mutation("$i", f"$i: {TYPE}! = {literal}"), "Copy"),
        (f"mutation {{ ... on Mutation {{ {field(literal)} }} }}", None),
        (f"mutation {{ ...Copying }} {in_fragment}", None),
        (f"{in_fragment} mutation {{ ...Copying }}", None),
        # An operation that is not executed must be valid too.
        (f"query Other {{ __typename }} {mutation(literal)}", "Other"),
    ):
        variables = {"i": {"sonarly": COPY}} if "$i" in query else {}
        (message,) = await gateway.refused(query, variables, operation)
        assert is_about_members(message, received), f"{query}: {message}"
    assert gateway.copies_asked_for() == before


@pytest.mark.parametrize(
    ("value", "received"),
    [
        ({}, "Received: none."),
        ({"sonarly": None}, "Received: sonarly as null. Omit members that are null."),
        (
            dict.fromkeys(MEMBERS),
            f"Received: {' as null, '.join(MEMBERS[:5])} as null, and more. Omit",
        ),
        ({"sonarly": COPY, "braze": {}}, "Received: sonarly, braze."),
        ({"sonarly": COPY, "braze": None}, "Received: sonarly, braze as null. Omit members"),
        ({"altcraft": None, "sonarly": COPY}, "Received: altcraft as null, sonarly. Omit members"),
        ({"sonarly": COPY, "braze": {}, "altcraft": 1}, "Received: sonarly, braze, altcraft."),
        ({"mailer": COPY}, "Received: mailer."),
        ({"mailer": None}, "Received: mailer as null."),
        ({"": COPY}, "Received: "),
        ({"SONARLY": COPY}, "Received: SONARLY."),
        ({"__proto__": COPY}, "Received: __proto__."),
        ({"sonarly": COPY, "mailer": 1}, "Received: sonarly, mailer."),
        ({"sonarly": COPY, "mailer": None}, "Received: sonarly, mailer as null."),
        ({"x" * 5000: COPY}, "xxx..."),
        ({f"m{number}": 1 for number in range(500)}, "and more"),
    ],
)
async def test_variable_without_exactly_one_member_is_refused(
    gateway: Edge, value: dict[str, Any], received: str
) -> None:
    before = gateway.copies_asked_for()
    for declared in (f"{TYPE}!", f"{TYPE}! = {{ sonarly: {SONARLY} }}"):
        query = mutation("$i", f"$i: {declared}")
        (message,) = await gateway.refused(query, {"i": value})
        assert message.startswith("Variable '$i'"), message
        assert is_about_members(message, received), message
    assert gateway.copies_asked_for() == before


NULLABLE = "mutation Copy($c: SonarlyCampaignInput"


@pytest.mark.parametrize(
    "query",
    [
        mutation("{ sonarly: $c }", "$c: SonarlyCampaignInput"),
        mutation("{ sonarly: $c }", "$c: SonarlyCampaignInput = null"),
        # The default does not help here: the value may still be null.
        mutation("{ sonarly: $c }", f"$c: SonarlyCampaignInput = {SONARLY}"),
        f"{NULLABLE}) {{ ...Copying }} {FRAGMENT}",
        f"{FRAGMENT} {NULLABLE}) {{ ...Copying }}",
        f"{CHAIN} {NULLABLE}) {{ ...Outer }}",
        f"{NULLABLE}) {{ ... on Mutation {{ {BY_MEMBER} }} }}",
        f"{NULLABLE}) {{ ...Copying }} {FRAGMENT} {USING.replace('Copy(', 'Right(')}",
        f"{USING.replace('Copy(', 'Right(')} {NULLABLE}) {{ ...Copying }} {FRAGMENT}",
    ],
)
async def test_nullable_variable_as_a_member_is_refused(gateway: Edge, query: str) -> None:
    before = gateway.copies_asked_for()
    for value in ({"c": COPY}, {"c": None}, {}):
        (message,) = await gateway.refused(query, value, "Copy")
        for part in ("$c", TYPE, "cannot be null", "SonarlyCampaignInput!"):
            assert part in message, message
    assert gateway.copies_asked_for() == before


@pytest.mark.parametrize(
    ("query", "variables", "parts"),
    [
        (mutation("null"), {}, [TYPE, "null"]),
        (mutation("[]"), {}, [TYPE]),
        (mutation(f"[{{ sonarly: {SONARLY} }}]"), {}, [TYPE]),
        (mutation('"sonarly"'), {}, [TYPE]),
        (mutation("7"), {}, [TYPE]),
        (mutation("sonarly"), {}, [TYPE]),
        (mutation('{ sonarly: "507f1f77bcf86cd799439011" }'), {}, ["SonarlyCampaignInput"]),
        (mutation(f"{{ sonarly: [{SONARLY}] }}"), {}, ["SonarlyCampaignInput"]),
        (mutation(f"{{ sonarly: {SONARLY[:-1]} mailer: 1 }} }}"), {}, ["mailer"]),
        ('mutation { duplicateCampaign(idempotencyKey: "k") { status } }', {}, ["input", TYPE]),
        (mutation("$i"), {"i": {"sonarly": COPY}}, ["$i", "not defined"]),
        (mutation("{ sonarly: $c }"), {"c": COPY}, ["$c", "not defined"]),
        (f"{FRAGMENT} mutation Copy {{ ...Copying }}", {"c": COPY}, ["$c", "not defined"]),
        (
            mutation(f"{{ sonarly: {SONARLY} }}", f"$i: {TYPE}!"),
            {"i": {"sonarly": COPY}},
            ["$i", "never used"],
        ),
        (
            mutation(f"{{ sonarly: {SONARLY} }}", "$c: SonarlyCampaignInput"),
            {"c": COPY},
            ["$c", "never used"],
        ),
        (
            mutation("{ sonarly: $c }", "$c: BrazeCampaignInput!"),
            {"c": COPY},
            ["$c", "BrazeCampaignInput!", "SonarlyCampaignInput"],
        ),
        (mutation("{ sonarly: $c }", "$c: String!"), {"c": "x"}, ["$c", "SonarlyCampaignInput"]),
        (mutation("{ sonarly: $c }", f"$c: {TYPE}!"), {"c": {"sonarly": COPY}}, ["$c", TYPE]),
        (
            mutation("{ sonarly: $c }", "$c: [SonarlyCampaignInput!]!"),
            {"c": [COPY]},
            ["$c", "SonarlyCampaignInput"],
        ),
        (mutation("$i", f"$i: {TYPE}"), {"i": {"sonarly": COPY}}, ["$i", f"{TYPE}!"]),
        (mutation("$i", f"$i: [{TYPE}!]!"), {"i": [{"sonarly": COPY}]}, ["$i", TYPE]),
        (mutation("$i", f"$i: {TYPE}!"), {}, ["$i", TYPE]),
        (mutation("$i", f"$i: {TYPE}!"), {"i": None}, ["$i"]),
        (mutation("$i", f"$i: {TYPE}!"), {"i": [{"sonarly": COPY}]}, ["$i"]),
        (mutation("$i", f"$i: {TYPE}!"), {"i": []}, ["$i"]),
        (mutation("$i", f"$i: {TYPE}!"), {"i": "sonarly"}, ["$i"]),
        (mutation("$i", f"$i: {TYPE}!"), {"i": True}, ["$i"]),
        (mutation("$i", f"$i: {TYPE}!"), {"i": {"sonarly": "x"}}, ["$i", "sonarly"]),
        (mutation("$i", f"$i: {TYPE}!"), {"i": {"sonarly": [COPY]}}, ["$i", "sonarly"]),
        (
            mutation("$i", f"$i: {TYPE}!"),
            {"i": {"sonarly": {**COPY, "audienceId": None}}},
            ["$i", "sonarly", "audienceId"],
        ),
        (mutation("$i", f"$i: {TYPE}!"), {"i": {"sonarly": {**COPY, "x": 1}}}, ["$i", "x"]),
        (mutation("{ sonarly: $c }", "$c: SonarlyCampaignInput!"), {}, ["$c"]),
        (mutation("{ sonarly: $c }", "$c: SonarlyCampaignInput!"), {"c": None}, ["$c"]),
        (mutation("{ sonarly: $c }", "$c: SonarlyCampaignInput!"), {"c": [COPY]}, ["$c"]),
    ],
)
async def test_other_errors_in_the_input_are_reported_as_such(
    gateway: Edge, query: str, variables: dict[str, Any], parts: list[str]
) -> None:
    before = gateway.copies_asked_for()
    (message,) = await gateway.refused(query, variables)
    assert all(part in message for part in parts), message
    assert "takes exactly one of" not in message
    assert "cannot be null" not in message or "is used as a member" not in message
    assert gateway.copies_asked_for() == before


async def test_two_variables_as_two_members_are_refused(gateway: Edge) -> None:
    query = mutation(
        "{ sonarly: $s, braze: $b }", "$s: SonarlyCampaignInput!, $b: BrazeCampaignInput!"
    )
    (message,) = await gateway.refused(query, {"s": COPY, "b": {"campaignId": "x", "name": "y"}})
    assert is_about_members(message, "Received: sonarly, braze.")


async def test_each_error_is_reported_once(gateway: Edge) -> None:
    wrong = f"mutation A {{ {field('{}')} }} mutation B {{ {field('{ braze: null }')} }}"
    first, second = await gateway.refused(wrong, None, "A")
    assert is_about_members(first, "Received: none.")
    assert is_about_members(second, "Received: braze as null.")


async def test_introspection_reports_which_input_is_one_of(gateway: Edge) -> None:
    query = """{ __schema {
      types { name kind isOneOf inputFields { type { kind isOneOf ofType { kind isOneOf } } } }
      mutationType { fields { type { kind isOneOf }
        args { type { kind isOneOf ofType { name isOneOf } } } } }
    } }"""
    introspection = (await gateway.data(query))["__schema"]
    marks = {type_["name"]: type_["isOneOf"] for type_ in introspection["types"]}
    inputs = {type_["name"] for type_ in introspection["types"] if type_["kind"] == "INPUT_OBJECT"}
    assert {name for name, mark in marks.items() if mark is True} == {TYPE}
    assert {name for name, mark in marks.items() if mark is False} == inputs - {TYPE}
    assert inputs > {connector.Input.__name__ for connector in CONNECTORS.values()}

    fields = [field for type_ in introspection["types"] for field in type_["inputFields"] or ()]
    wrappers = [field["type"] for field in fields if field["type"]["kind"] in {"LIST", "NON_NULL"}]
    (mutation_field,) = introspection["mutationType"]["fields"]
    (argument,) = (
        argument["type"]
        for argument in mutation_field["args"]
        if argument["type"]["ofType"] and argument["type"]["ofType"]["name"] == TYPE
    )
    assert {wrapper["kind"] for wrapper in wrappers} == {"LIST", "NON_NULL"}
    assert all(type_["isOneOf"] is None for type_ in [*wrappers, mutation_field["type"]])
    assert argument == {
        "kind": "NON_NULL",
        "isOneOf": None,
        "ofType": {"name": TYPE, "isOneOf": True},
    }
    single = await gateway.data(f'{{ __type(name: "{TYPE}") {{ isOneOf }} }}')
    assert single == {"__type": {"isOneOf": True}}


async def test_printed_schema_marks_only_that_input_as_one_of() -> None:
    printed = client_sdl()
    assert printed.count("@oneOf") == 1
    assert f"input {TYPE} @oneOf {{" in printed
    # The description must explain it to clients that do not know the directive.
    description = printed.partition(f"input {TYPE} ")[0].rpartition('"""\n')[0][-200:]
    assert "exactly one" in description
