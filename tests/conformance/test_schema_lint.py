"""Lints the published schemas: everything has a description, and pages follow Relay."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.api.schema import federation_sdl
from support.node import run_node

SCRIPT = Path(__file__).with_name("lint.mjs")
PUBLISHED = Path(__file__).parents[2] / "schema.graphql"

# Fields and values have a meaningful order: identifiers come first, and statuses come in the order
# in which a campaign reaches them.
BY_ALPHABET = {
    "enum-values-sorted-alphabetically",
    "input-object-fields-sorted-alphabetically",
    "type-fields-sorted-alphabetically",
}

MUST = {
    "arguments-have-descriptions",
    "deprecations-have-a-reason",
    "enum-values-have-descriptions",
    "fields-have-descriptions",
    "input-object-values-have-descriptions",
    "relay-connection-arguments-spec",
    "relay-connection-types-spec",
    "relay-page-info-spec",
    "types-have-descriptions",
}

POOR = """
type Query { things(filter: Filter): ThingConnection, old: Int @deprecated }
type ThingConnection { edges: Int }
type PageInfo { more: Boolean }
input Filter { kind: Kind }
enum Kind { SOME }
"""

# A composer defines these directives, so the linter needs their definitions.
COMPOSERS_OWN = """
directive @link(url: String!, import: [String!]) on SCHEMA
directive @key(fields: String!) repeatable on OBJECT
directive @shareable on OBJECT
"""

# Federation defines these names, and clients never see them.
PRESCRIBED = re.compile(r"`(Query\.)?_(Any|Entity|Service|entities|service)[.`]")


@pytest.fixture
def lint(tmp_path: Path) -> Callable[[str], set[tuple[str, str]]]:
    """Return the linter's findings, as rules and messages."""

    def lint(sdl: str) -> set[tuple[str, str]]:
        file = tmp_path / "schema.graphql"
        file.write_text(sdl, "utf-8")
        findings = {
            (finding["rule"], finding["message"]) for finding in run_node(SCRIPT, str(file))
        }
        return {(rule, message) for rule, message in findings if rule not in BY_ALPHABET}

    return lint


def test_linter_applies_the_required_rules(lint: Any) -> None:
    assert {rule for rule, _ in lint(POOR)} >= MUST


def test_linter_finds_no_error_in_the_published_schema(lint: Any) -> None:
    assert lint(PUBLISHED.read_text("utf-8")) == set()


def test_linter_finds_no_error_in_our_part_of_the_subgraph(lint: Any) -> None:
    findings = lint(federation_sdl() + COMPOSERS_OWN)
    assert [message for _, message in findings if not PRESCRIBED.search(message)] == []
