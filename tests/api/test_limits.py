"""The limits of a document, each at its value and one above, and disabled introspection."""

import asyncio
import gc
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
import pytest_asyncio
from graphql import GraphQLError, get_introspection_query, parse

from campaign_gateway.api.schema import build_schema
from campaign_gateway.app import create_app
from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.sandbox.emulators.sonarly import ACCOUNTS, create_emulator
from campaign_gateway.settings import parse_settings
from campaign_gateway.web.graphql_http import documents, limits, request
from campaign_gateway.web.graphql_http.documents import (
    CACHED_DOCUMENT_LENGTH,
    CACHED_LENGTH,
    Documents,
)
from campaign_gateway.web.graphql_http.variables import VARIABLE_VALUE_LIMIT
from support.correlated import without_id
from support.edge import Edge

# One server for all tests, so its event loop must live longer than each of them.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SONARLY = (
    '{ sonarly: { accountGroupId: "507f1f77bcf86cd799439001", audienceId:'
    ' "507f1f77bcf86cd799439021", campaignId: "507f1f77bcf86cd799439011" } }'
)


def times(count: int, written: str) -> str:
    return " ".join(written.replace("#", str(number)) for number in range(count))


def operations(count: int) -> str:
    return times(count, "query Q# { __typename }")


def fragments(count: int) -> str:
    definitions = times(count, "fragment F# on Account { name }")
    return f"query Q0 {{ accounts {{ {times(count, '...F#')} }} }} {definitions}"


def spreads(count: int) -> str:
    return f"query Q0 {{ {times(count, '...F')} }} fragment F on Query {{ __typename }}"


def directives(count: int) -> str:
    """Directives on a spread, on an inline fragment, and on fields."""
    return (
        "query Q0 { ...F @include(if: true) ... @skip(if: false) { __typename } "
        f"accounts {{ {times(count - 2, 'name @include(if: true)')} }} }} "
        "fragment F on Query { __typename }"
    )


def aliases(count: int) -> str:
    return f"query Q0 {{ accounts {{ {times(count, 'a#: name')} }} }}"


def root_fields(count: int) -> str:
    return (
        f"query Q0 {{ {times(count - 2, 'a#: __typename')} ... {{ accounts {{ name }} }} ...F }} "
        "fragment F on Query { __typename }"
    )


def same_fields(count: int) -> str:
    written = f"accounts {{ {times(count - 2, 'name')} ... {{ name }} ...F }}"
    return f"query Q0 {{ {written} }} fragment F on Account {{ name }}"


def values(count: int) -> str:
    """A page of 100 with 33 values each and two shorter ones with three are 10,000.

    Each duplication counts 30 more.
    """
    return f"""query Q0 {{
      x: duplications(first: 100) {{ edges {{ node {{ ...Every }} }} }}
      y: duplications(first: 100) {{ edges {{ node {{ id }} }} }}
      duplications(first: 12) {{ edges {{ node {{ id }} }} }} __typename
      {times(count - 10_000, "a#: __typename")}
    }}
    {EVERY_FIELD}"""


EVERY_FIELD = """fragment Every on Duplication {
  __typename id provider account sourceCampaignId requestedName status evidence providerTraceId
  requestedAt settledAt
  campaign { __typename account id provider name description status providerStatus tags createdAt
    updatedAt }
  error { code message field retry retryAfterSeconds providerCode providerMessage }
}"""


@pytest.mark.parametrize(
    ("write", "limit", "what"),
    [
        (operations, 20, "operations"),
        (fragments, 30, "fragments"),
        (spreads, 100, "fragment spreads"),
        (directives, 30, "directives"),
        (aliases, 30, "aliases"),
        (root_fields, 10, "top-level fields"),
        (same_fields, 50, "fields named 'name'"),
        (values, 10_000, "values"),
    ],
)
async def test_each_limit_allows_its_value_and_refuses_one_more(
    gateway: Edge, write: Callable[[int], str], limit: int, what: str
) -> None:
    assert await gateway.data(write(limit), None, "Q0")
    (message,) = await gateway.refused(write(limit + 1), None, "Q0")
    assert what in message
    assert str(limit) in message
    assert str(limit + 1) in message


async def test_limits_have_the_values_of_these_tests() -> None:
    assert (limits.OPERATION_LIMIT, limits.FRAGMENT_LIMIT, limits.SPREAD_LIMIT) == (20, 30, 100)
    assert (limits.DIRECTIVE_LIMIT, limits.ALIAS_LIMIT, limits.ROOT_FIELD_LIMIT) == (30, 30, 10)
    assert (limits.SAME_FIELD_LIMIT, limits.VALUE_LIMIT, limits.TOKEN_LIMIT) == (50, 10_000, 1000)
    assert (limits.DEPTH_LIMIT, limits.ERROR_LIMIT, limits.LINE_LIMIT) == (10, 5, 5000)


async def test_tokens_of_a_document_are_limited(gateway: Edge) -> None:
    def tokens(count: int) -> str:
        query = "{ _entities(representations: [#]) { __typename } }"
        return query.replace("#", times(count - 12, "1"))

    executed = (await gateway.post(tokens(1000))).json()
    assert executed["errors"][0]["path"] == ["_entities"]
    (message,) = await gateway.refused(tokens(1001))
    assert "1000 tokens" in message
    # Comments and commas are no tokens.
    assert await gateway.data(f"{{ __typename }} {'# comment' * 1000} \n {',' * 20_000}")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
async def test_lines_of_a_document_are_limited(gateway: Edge, end: str) -> None:
    assert await gateway.data(end * 4999 + "{ __typename }")
    (message,) = await gateway.refused(end * 5000 + "{ __typename }")
    assert message == "The document has 5001 lines. The limit is 5000."


async def test_levels_of_fields_are_limited(gateway: Edge) -> None:
    def levels(count: int) -> str:
        return "{ a " * (count - 1) + "{ ... { ...F } }" + " }" * (count - 1)

    # Nothing in the schema is so deep, so an allowed document fails by another rule.
    inner = "fragment F on Query { a }"
    allowed = await gateway.refused(f"{levels(10)} {inner}")
    assert not [message for message in allowed if "levels" in message]
    (message,) = await gateway.refused(f"{levels(11)} {inner}")
    assert "11 levels of fields. The limit is 10." in message


async def test_values_are_limited_for_every_way_to_set_the_page_size(gateway: Edge) -> None:
    page = "{ edges { node { ...Every } } }"
    # A page counts with its maximum size if a variable sets the size.
    by_variable = f"query Q($n: Int!) {{ d0: duplications(first: $n) {page} }}"
    assert await gateway.data(f"{by_variable} {EVERY_FIELD}", {"n": 1})
    two = by_variable.replace("{ d0", f"{{ d1: duplications(first: $n) {page} d0")
    (message,) = await gateway.refused(f"{two} {EVERY_FIELD}", {"n": 1})
    assert "values" in message
    # The default size of a page is 20.
    twice = "{ a: edges { node { ...Every } } b: edges { node { ...Every } } }"
    assert await gateway.data(f"{{ {times(5, f'd#: duplications {twice}')} }} {EVERY_FIELD}")
    (message,) = await gateway.refused(
        f"{{ {times(6, f'd#: duplications {twice}')} }} {EVERY_FIELD}"
    )
    assert "values" in message
    for first in ("1" * 90, "-5", "0", "101", '"100"', "null", "[1]", "1.5", "x"):
        response = await gateway.post(
            f"{{ {times(4, f'd#: duplications(first: {first}) {page}')} }} {EVERY_FIELD}"
        )
        assert response.status_code in {200, 400}, first
        assert "errors" in response.json(), first


async def test_values_in_variables_are_limited(gateway: Edge) -> None:
    query = "query Q($a: [_Any!]!) { _entities(representations: $a) { __typename } }"
    limit = VARIABLE_VALUE_LIMIT
    (message,) = await gateway.refused(query, {"a": [], "b": [{"c": 0}] * (limit // 2)})
    assert str(limit) in message
    await gateway.data(query, {"a": [], "b": [{"c": 0}] * (limit // 2 - 1)})


async def test_comments_of_a_document_are_limited(gateway: Edge) -> None:
    comments = "#\n" * limits.COMMENT_LIMIT
    await gateway.data(f"{comments} {{ __typename }}")
    (message,) = await gateway.refused(f"#\n{comments} {{ __typename }}")
    assert str(limits.COMMENT_LIMIT) in message


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("Int!", None, "Expected value of non-null type 'Int!' not to be null."),
        ("Int!", True, "Int cannot represent non-integer value."),
        ("String!", {"secret": None}, "String cannot represent a non string value."),
        ("DuplicationFilter!", [{"secret": 1}], "Expected value of type 'DuplicationFilter' to be"),
        ("DuplicationFilter!", {"a: b": True}, "Expected value of type 'DuplicationFilter' not to"),
    ],
)
async def test_error_in_a_variable_uses_graphql_terms_and_no_python(
    gateway: Edge, type_: str, value: object, expected: str
) -> None:
    used = {"Int!": "duplications(first: $a)", "String!": "campaign(account: $a, id: 1)"}
    field = used.get(type_, "duplications(filter: $a)")
    query = f"query Q($a: {type_}) {{ {field} {{ __typename }} }}"
    (message,) = await gateway.refused(query, {"a": value})
    assert f"'$a' has invalid value: {expected}" in message
    assert not re.search(r"None|True|secret", message)


async def test_null_in_a_document_is_called_null(gateway: Edge) -> None:
    (message,) = await gateway.refused("{ duplications(first: null) { __typename } }")
    assert message == "Expected value of non-null type 'Int!' not to be null."


async def test_number_with_too_many_digits_is_refused(gateway: Edge) -> None:
    """Python refuses to convert more than 4,300 digits, with a message of its own."""
    for number in ("1" * 101, "1." + "1" * 60_000):
        query = f"{{ duplications(first: {number}) {{ pageInfo {{ hasNextPage }} }} }}"
        (message,) = await gateway.refused(query)
        assert message == "The document contains a number with too many digits."


async def test_internal_error_before_execution_is_masked_and_logged(
    gateway: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("inner workings")

    monkeypatch.setattr(documents, "check_limits", broken)
    response = await gateway.post("query NeverSentBefore { __typename }")
    assert response.status_code == 500
    error = {"message": "Internal error.", "extensions": {"code": "INTERNAL_ERROR"}}
    assert without_id(response) == {"errors": [error]}
    assert "inner workings" in caplog.text


async def test_body_that_does_not_arrive_in_time_is_408(
    gateway: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b'{"query":'
        await asyncio.sleep(1)
        yield b'"{ __typename }"}'

    monkeypatch.setattr(request, "BODY_SECONDS", 0.2)
    headers = {"content-type": "application/json"}
    response = await gateway.http.post("/graphql", content=trickle(), headers=headers)
    assert response.status_code == 408
    assert "did not arrive" in response.json()["errors"][0]["message"]


async def test_cached_document_has_no_locations(gateway: Edge) -> None:
    """Each error would scan the whole text for its location, for each of a hundred entities."""
    query = "query Q($a: [_Any!]!) { _entities(representations: $a) { __typename } }"
    key = {"__typename": "Campaign", "account": "no-such-account", "id": "1"}
    content = (await gateway.post("\n" * 1000 + query, {"a": [key] * 3})).json()
    assert [error["path"] for error in content["errors"]] == [["_entities", n] for n in range(3)]
    assert not any("locations" in error for error in content["errors"])
    errors = (await gateway.post("\n" * 1000 + "{ nonsense }")).json()["errors"]
    assert errors[0]["locations"] == [{"line": 1001, "column": 3}]


async def test_page_of_a_hundred_with_every_field_is_allowed(gateway: Edge) -> None:
    query = f"""query Page($filter: DuplicationFilter, $after: String) {{
      duplications(first: 100, after: $after, filter: $filter) {{
        __typename
        edges {{ __typename cursor node {{ ...Every }} }}
        pageInfo {{ __typename hasNextPage hasPreviousPage startCursor endCursor }}
      }}
    }} {EVERY_FIELD}"""
    page = await gateway.data(query, {"filter": {"account": "nobody's"}})
    assert page["duplications"]["edges"] == []


def doubling(steps: int) -> str:
    """Return a document with 2^n fields if its fragments are expanded."""
    chain = [
        f"fragment F{step} on Query {{ ...F{step + 1} ...F{step + 1} }}" for step in range(steps)
    ]
    return f"{{ ...F0 }} {' '.join(chain)} fragment F{steps} on Query {{ __typename }}"


async def test_each_fragment_is_measured_only_once(gateway: Edge) -> None:
    def cost(steps: int, repeats: int) -> float:
        document = parse(doubling(steps))
        began = time.process_time()
        for _ in range(repeats):
            with suppress(GraphQLError):
                limits.check_limits(document, {})
        return (time.process_time() - began) / repeats

    # The longer document has five times the length, and a million times the fields if fragments
    # were expanded. The shorter one comes first, so that an error shows within seconds.
    for steps in (15, 25):
        assert cost(steps, 3) < 100 * cost(5, 300), steps
    (message,) = await gateway.refused(doubling(25))
    assert "values" in message
    assert await gateway.data(doubling(8)) == {"__typename": "Query"}


async def test_many_pages_are_refused_although_they_show_little(gateway: Edge) -> None:
    """To load a duplication takes longer than to write it: ten pages of 100 took 120 ms."""
    page = "d#: duplications(first: 100) { edges { cursor } }"
    assert await gateway.data(f"{{ {times(3, page)} }}")
    (message,) = await gateway.refused(f"{{ {times(4, page)} }}")
    assert "values" in message


async def test_cyclic_or_missing_fragment_is_refused(gateway: Edge) -> None:
    for query in (
        "{ ...A } fragment A on Query { ...A }",
        "{ ...A } fragment A on Query { ...B ...B } fragment B on Query { ...A ...A }",
        "{ ...A } fragment A on Query { accounts { ...B } } fragment B on Account { ...A }",
        "{ ...A }",
        "{ ...A } fragment A on Query { __typename } fragment A on Query { __typename }",
    ):
        assert await gateway.refused(query)


GRAPHIQL = get_introspection_query(
    one_of=True, input_value_deprecation=True, schema_description=True, specified_by_url=True
)
EVERYTHING = get_introspection_query(
    specified_by_url=True,
    directive_is_repeatable=True,
    schema_description=True,
    input_value_deprecation=True,
    experimental_directive_deprecation=True,
    one_of=True,
    type_depth=9,
)


async def test_introspection_of_tools_is_allowed(gateway: Edge) -> None:
    for query in (get_introspection_query(), GRAPHIQL, EVERYTHING):
        introspection = (await gateway.data(query))["__schema"]
        assert {"Query", "Mutation", "Duplication"} <= {
            type_["name"] for type_ in introspection["types"]
        }
    assert "sdl" in (await gateway.data("{ _service { sdl } }"))["_service"]


def copy(alias: str = "") -> str:
    return f'{alias}duplicateCampaign(input: {SONARLY}, idempotencyKey: "KEY") {{ status }}'


ONE = {"duplicateCampaign": {"status": "CREATED"}}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"mutation A {{ {copy()} }}", ONE),
        (f"mutation A {{ {copy()} {copy()} }}", ONE),
        (f"mutation A {{ {copy()} ...F }} fragment F on Mutation {{ {copy()} }}", ONE),
        (f"mutation A {{ ...F ...F }} fragment F on Mutation {{ {copy()} }}", ONE),
        (f"mutation A {{ ... {{ {copy()} }} ... on Mutation {{ {copy()} }} }}", ONE),
        (f"mutation A {{ {copy()} }} mutation B {{ {copy()} }}", ONE),
        (f"mutation A {{ {copy('x: ')} }}", {"x": {"status": "CREATED"}}),
        # Some clients add __typename everywhere, and it makes no copy.
        (f"mutation A {{ __typename {copy()} }}", {"__typename": "Mutation", **ONE}),
    ],
)
async def test_request_may_make_one_copy(gateway: Edge, query: str, expected: Any) -> None:
    before = gateway.copies_asked_for()
    assert await gateway.data(query.replace("KEY", str(uuid.uuid4())), None, "A") == expected
    assert gateway.copies_asked_for() == before + 1


IN_G = f"fragment G on Mutation {{ {copy('y: ')} }}"


@pytest.mark.parametrize(
    "query",
    [
        f"mutation A {{ {copy()} {copy('x: ')} }}",
        f"mutation A {{ {copy('x: ')} {copy('y: ')} }}",
        f"mutation A {{ {copy()} ...F }} fragment F on Mutation {{ {copy('x: ')} }}",
        f"fragment F on Mutation {{ {copy('x: ')} ...G }} mutation A {{ ...F }} {IN_G}",
        f"mutation A {{ ... on Mutation {{ {copy('x: ')} }} ... {{ {copy('y: ')} }} }}",
        f"mutation A {{ {copy('x: ')} ... @skip(if: true) {{ {copy('y: ')} }} }}",
        f"mutation A {{ {copy()} }} mutation B {{ {copy('x: ')} {copy('y: ')} }}",
    ],
)
async def test_request_with_two_copies_is_refused(gateway: Edge, query: str) -> None:
    before = gateway.copies_asked_for()
    (message,) = await gateway.refused(query, None, "A")
    assert message == "One request makes one copy. Send a separate request for each copy."
    assert gateway.copies_asked_for() == before


async def test_errors_are_limited_in_number_and_length(gateway: Edge) -> None:
    long = "x" * 20_000
    by_copy = """mutation ($i: DuplicateCampaignInput!) {
      duplicateCampaign(input: $i, idempotencyKey: "k") { status } }"""
    page = "query ($f: DuplicationFilter, $n: Int!) { duplications(first: $n, filter: $f) { %s } }"
    cases: list[tuple[str, Any]] = [
        (f"{{ {times(18, 'nope#')} }}", None),
        (f"{{ accounts {{ {times(300, 'nope#')} }} }}", None),
        (f"query ({times(100, '$v#: Int')}) {{ __typename }}", None),
        (f"query ({times(100, '$v#: No#')}) {{ __typename }}", None),
        (f"{{ duplications({times(100, 'a#: 1')}) {{ __typename }} }}", None),
        (f"{{ {long} }}", None),
        (f'{{ duplications(first: "{long}") {{ __typename }} }}', None),
        (f"{{ duplications(filter: {{ status: {long} }}) {{ __typename }} }}", None),
        (f"query (${long}: Int) {{ __typename }}", None),
        (f"{{ ...{long} }}", None),
        (f"{{ __typename @{long} }}", None),
        (f"mutation {{ duplicateCampaign(input: {{ {long}: 1 }}) {{ status }} }}", None),
        (by_copy, {"i": {"sonarly": {"leadIds": [{}] * 500}}}),
        (by_copy, {"i": {"sonarly": {f"x{number}": 1 for number in range(500)}}}),
        (by_copy, {"i": {"sonarly": {long: long}}}),
        (by_copy, {"i": {long: long}}),
        (page % "__typename", {"n": long}),
        (page % "__typename", {"n": 1, "f": {"status": long}}),
        (page % "__typename", {"n": 1, "f": {"requestedSince": long}}),
        (page % "__typename", {"n": 1, "f": {long: [long]}}),
    ]
    for query, variables in cases:
        response = await gateway.post(query, variables)
        messages = [error["message"] for error in response.json()["errors"]]
        shown = f"{query[:80]} {str(variables)[:80]}"
        # One more error says that there are more.
        assert 0 < len(messages) <= limits.ERROR_LIMIT + 1, shown
        assert all(len(message) < 600 for message in messages), shown
        assert len(response.content) < 5000, shown


async def test_long_operation_name_is_shortened_in_the_message(gateway: Edge) -> None:
    long = "x" * 20_000
    for query, operation in [
        (f"query {long} {{ __typename }} query B {{ __typename }}", None),
        ("query A { __typename }", long),
        (operations(20), "nope"),
    ]:
        (message,) = await gateway.refused(query, None, operation)
        assert len(message) < 300


async def test_document_is_parsed_and_validated_once(
    gateway: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"parse": 0, "check_limits": 0, "validate": 0}

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(documents, name)

        def count(*arguments: Any, **more: Any) -> Any:
            counts[name] += 1
            return real(*arguments, **more)

        return count

    for name in counts:
        monkeypatch.setattr(documents, name, counted(name))
    # No earlier test has sent any of these.
    for query, times_validated in [
        ("query Fresh($id: ID!) { duplication(id: $id) { id } }", {1, 2}),
        ("query Fresh { nonsense }", {1, 2}),
        ("mutation Fresh { duplicateCampaign(input: {}) { status } }", {1, 2}),
        (operations(22), {0}),
        ("query Fresh {", {0}),
    ]:
        counts.update(dict.fromkeys(counts, 0))
        responses = [
            await gateway.post(query, {"id": duplication_id}) for duplication_id in ("a", "b", "c")
        ]
        # Once with locations for its errors, and once without for the cache.
        assert counts["parse"] in {1, 2}, query
        assert counts["check_limits"] <= 1, query
        assert counts["validate"] in times_validated, query
        assert len({(each.status_code, str(without_id(each))) for each in responses}) == 1, query


async def test_document_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def counted(text: str, **more: Any) -> Any:
        if more["no_location"]:
            parsed.append(text)
        return parse(text, **more)

    kept = Documents(build_schema(), {}, introspection_disabled=False)
    monkeypatch.setattr(documents, "parse", counted)
    length = CACHED_DOCUMENT_LENGTH
    first, *others = (
        f"{{ a{number}: __typename }}".ljust(length)
        for number in range(CACHED_LENGTH // length + 1)
    )
    for text in (first, first, *others[:-1], first, *others, first):
        kept.parse(text)
    assert parsed.count(first) == 2
    assert len(parsed) == len(others) + 2
    # A long document is never kept, and takes no other's place.
    parsed.clear()
    long = "{ __typename }".ljust(length + 1)
    for text in (long, long, first):
        kept.parse(text)
    assert parsed == [long, long]


async def test_large_document_leaves_no_garbage_among_long_lived_objects() -> None:
    """Python would later search there for 200 ms, while another request waits."""
    kept = Documents(build_schema(), {}, introspection_disabled=False)
    fields = "campaign { account id provider name description status } error { code } " * 49
    gc.collect()
    before = len(gc.get_objects(generation=2))
    for number in range(3):
        assert not kept.parse(f'query Q{number} {{ duplication(id: "x") {{ {fields} }} }}').errors
    assert len(gc.get_objects(generation=2)) < before + 1000
    assert gc.isenabled()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callable[..., Any]]:
    """Sends requests to a gateway with introspection disabled."""
    folder = tmp_path_factory.mktemp("closed")
    async with serving(create_emulator()) as url:
        account = {"provider": "sonarly", "base_url": url, "timeout_seconds": 5}
        settings = {
            "server": {"introspection": False},
            "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
            "accounts": {"sonarly": {**account, **ACCOUNTS["sonarly"]}},
        }
        app = await create_app(parse_settings(settings, {}))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:

            async def ask(query: str, operation: str | None = None, **variables: object) -> Any:
                body = {"query": query, "operationName": operation, "variables": variables}
                return (await http.post("/graphql", json=body)).json()

            yield ask
        await app.state.gateway.drain()
        await app.state.gateway.close()


async def test_disabled_introspection_refuses_queries_of_the_schema(
    closed: Callable[..., Any],
) -> None:
    for query in (
        "{ __schema { types { name } } }",
        '{ __type(name: "Query") { name } }',
        "{ _service { sdl } }",
        "{ a: __schema { queryType { name } } }",
        "{ ...F } fragment F on Query { __schema { queryType { name } } }",
        "{ ... on Query { ... { b: _service { sdl } } } }",
        "{ __schema @skip(if: true) { queryType { name } } __typename }",
        "query A { __typename } query B { __schema { queryType { name } } }",
        get_introspection_query(),
        EVERYTHING,
    ):
        content = await closed(query, "A" if "query A" in query else None)
        assert content.keys() == {"errors", "extensions"}, query
        messages = {error["message"] for error in content["errors"]}
        assert "Introspection is disabled on this gateway." in messages, query
    assert (await closed("{ __typename }"))["data"] == {"__typename": "Query"}


BY_INPUT = """mutation ($i: DuplicateCampaignInput!) {
  duplicateCampaign(input: $i, idempotencyKey: "k") { status } }"""
BY_FILTER = "query ($f: DuplicationFilter) { duplications(filter: $f) { __typename } }"
BY_KEYS = "query ($r: [_Any!]!) { _entities(representations: $r) { __typename } }"


def by_literal(value: str) -> str:
    return f'mutation {{ duplicateCampaign(input: {value}, idempotencyKey: "k") {{ status }} }}'


# Requests with a name that is similar to one of the schema, and names that must not be shown.
GUESSES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("{ duplicaton(id: 1) { __typename } }", {}, ["duplication"]),
    ("{ duplication(idd: 1) { __typename } }", {}, []),
    ("{ duplication(id: 1) { stats } }", {}, ["status"]),
    ("{ accounts { nam } }", {}, ["name"]),
    ("{ accounts }", {}, []),
    ("mutation { duplicateCampain { status } }", {}, ["duplicateCampaign"]),
    ("{ duplications(filter: { status: CREATD }) { __typename } }", {}, ["CREATED"]),
    ('{ duplications(filter: { status: "CREATED" }) { __typename } }', {}, []),
    ("{ duplications(filter: { statu: CREATED }) { __typename } }", {}, ["status"]),
    ("query ($f: DuplicationFilte) { __typename }", {}, ["DuplicationFilter"]),
    ("{ ... on Quer { __typename } }", {}, ["Query"]),
    ("{ ...F } fragment F on Duplicaton { __typename }", {}, ["Duplication"]),
    ("{ __typename @inclde(if: true) }", {}, ["include"]),
    (BY_FILTER, {"f": {"status": "CREATD"}}, ["CREATED"]),
    (BY_FILTER, {"f": {"status": "created"}}, ["CREATED"]),
    (BY_FILTER, {"f": {"statu": "CREATED"}}, ["status"]),
    (by_literal("{}"), {}, ["sonarly", "braze", "altcraft"]),
    (by_literal("{ mailer: {} }"), {}, ["sonarly", "braze", "altcraft"]),
    (by_literal("{ sonarly: null }"), {}, ["braze", "altcraft"]),
    (BY_INPUT, {"i": {}}, ["sonarly", "braze", "altcraft"]),
    (BY_INPUT, {"i": {"sonarl": {}}}, ["sonarly", "braze", "altcraft"]),
    (BY_INPUT, {"i": {"sonarly": {"campaignIdd": "x"}}}, []),
    (BY_KEYS, {"r": [{"__typename": "Query"}]}, ["Duplication", "Campaign"]),
]


@pytest.mark.parametrize(("query", "variables", "names"), GUESSES)
async def test_disabled_introspection_suggests_no_names(
    closed: Callable[..., Any], query: str, variables: dict[str, Any], names: list[str]
) -> None:
    content = await closed(query, **variables)
    messages = " ".join(error["message"] for error in content["errors"])
    assert messages
    assert "Did you mean" not in messages
    # Only whole words count, because a guess contains most of the name that it is similar to.
    assert not set(names) & set(re.findall(r"\w+", messages)), messages


async def test_disabled_introspection_still_executes_requests(closed: Callable[..., Any]) -> None:
    query = "mutation { duplicateCampaign(input: %s, idempotencyKey: %s) { %s } }"
    key = json.dumps(str(uuid.uuid4()))
    content = await closed(query % (SONARLY, key, "__typename status duplication { id }"))
    payload = content["data"]["duplicateCampaign"]
    assert payload["status"] == "CREATED"
    keys = [{"__typename": "Duplication", "id": payload["duplication"]["id"]}]
    hop = BY_KEYS.replace("__typename }", "__typename ... on Duplication { status } }")
    assert (await closed(hop, r=keys))["data"] == {
        "_entities": [{"__typename": "Duplication", "status": "CREATED"}]
    }
