"""Random documents that are generated from the schema and sent over HTTP."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import (
    DocumentNode,
    InputObjectTypeDefinitionNode,
    InputValueDefinitionNode,
    NamedTypeNode,
    NonNullTypeNode,
    parse,
    print_ast,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import Mode, mutations, nodes, queries

from support.plain import NO_CAS

SDL = (Path(__file__).parents[2] / "schema.graphql").read_text("utf-8")
INSIDES = re.compile(r"Traceback|Error\(|object at 0x|NoneType|Internal error|\bsys\.|<class")

TIMES = ["2026-01-31T12:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "now"]
SCALARS = {"DateTime": st.sampled_from(TIMES).map(nodes.String)}


DEFINITIONS = parse(SDL, no_location=True).definitions
(CHOICE,) = (
    definition
    for definition in DEFINITIONS
    if isinstance(definition, InputObjectTypeDefinitionNode) and definition.directives
)
MEMBERS = {member.name.value: member for member in CHOICE.fields or ()}


def schema_for(member: InputValueDefinitionNode) -> str:
    """Return a schema in which the input has this member alone, and requires it.

    The generator does not support @oneOf.
    """
    assert isinstance(member.type, NamedTypeNode)
    forced = InputValueDefinitionNode(
        name=member.name, type=NonNullTypeNode(type=member.type), directives=()
    )
    alone = InputObjectTypeDefinitionNode(name=CHOICE.name, fields=(forced,), directives=())
    changed = tuple(alone if definition is CHOICE else definition for definition in DEFINITIONS)
    return print_ast(DocumentNode(definitions=changed))


@pytest.fixture(scope="module")
def http(sandbox_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox_url, timeout=60, trust_env=False, verify=NO_CAS) as http:
        yield http


def ask(http: httpx.Client, document: object) -> dict[str, object]:
    response = http.post(
        "/graphql",
        json={"query": document},
        headers={"accept": "application/graphql-response+json"},
    )
    assert response.status_code in {200, 400}, document
    assert not INSIDES.search(response.text), (document, response.text)
    content: dict[str, object] = response.json()
    assert ("data" in content) == (response.status_code == 200), document
    return content


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def numbers(number: int) -> list[Any]:
    return [number, pytest.param(20 * number, marks=pytest.mark.long)]


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("number", numbers(70))
def test_random_query_never_causes_an_internal_error(
    http: httpx.Client, mode: Mode, number: int
) -> None:
    @examples(number)
    @given(document=queries(SDL, custom_scalars=SCALARS, mode=mode))
    def run(document: object) -> None:
        ask(http, document)

    run()


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("number", numbers(40))
def test_random_mutation_never_causes_an_internal_error(
    http: httpx.Client, member: str, number: int
) -> None:
    executed = 0

    @examples(number)
    @given(document=mutations(schema_for(MEMBERS[member]), custom_scalars=SCALARS))
    def run(document: object) -> None:
        nonlocal executed
        executed += "data" in ask(http, document)

    run()
    # The other documents exceed a limit.
    assert executed > number / 2
