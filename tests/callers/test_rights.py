"""A caller gets only what its rights and its accounts allow."""

import uuid
from typing import Any

import pytest

from campaign_gateway.api.rights import QUERY_RIGHTS
from campaign_gateway.api.schema import build_schema
from campaign_gateway.sandbox.emulators import altcraft, meta
from support.calling import CalledGateway, sonarly_input

ALTCRAFT = {"account": "altcraft", "campaignId": 96}
META = {"campaignId": "120210000000000101"}

READS = {
    "campaign": '{ campaign(account: "sonarly", id: "1") { id } }',
    "duplication": '{ duplication(id: "1") { id } }',
    "cloneableAssetTypes": '{ cloneableAssetTypes(account: "sonarly") }',
    "duplicationByKey": '{ duplicationByKey(idempotencyKey: "k") { id } }',
    "duplications": "{ duplications { edges { node { id } } } }",
    "_entities": '{ _entities(representations: [{__typename: "Duplication", id: "1"}])'
    " { __typename } }",
}


def test_every_query_has_its_right() -> None:
    query_type = build_schema().query_type
    assert query_type is not None
    assert set(query_type.fields) == set(QUERY_RIGHTS)
    assert set(READS) == {name for name, right in QUERY_RIGHTS.items() if right}


@pytest.mark.parametrize("field", READS)
def test_caller_without_the_right_reads_nothing(called: CalledGateway, field: str) -> None:
    answer = called.client("writer").post(READS[field]).json()
    (error,) = answer["errors"]
    assert error["extensions"] == {"code": "FORBIDDEN"}
    assert error["path"] == [field]
    assert answer["data"] is None or answer["data"][field] is None
    allowed = called.client("reader").post(READS[field]).json()
    codes = [error.get("extensions", {}).get("code") for error in allowed.get("errors", [])]
    assert "FORBIDDEN" not in codes


def test_caller_without_the_right_to_read_sees_its_own_copy(called: CalledGateway) -> None:
    made = called.client("writer").copy(sonarly_input("Written"))
    assert made["status"] == "CREATED"
    assert made["campaign"]["name"] == "Written"
    assert made["duplication"]["requestedBy"] == {"caller": "writer", "person": None}
    assert made["requestedBy"] == {"caller": "writer", "person": None}


def test_caller_without_the_right_copies_nothing(called: CalledGateway) -> None:
    key = str(uuid.uuid4())
    refused = called.client("reader").copy(sonarly_input("Not allowed"), key)
    assert (refused["status"], refused["duplication"]) == ("NOT_SENT", None)
    (error,) = refused["userErrors"]
    assert (error["code"], error["retry"]) == ("NOT_ALLOWED", "SAME_KEY")
    found = called.client("reader").data(
        "query Find($key: String!) { duplicationByKey(idempotencyKey: $key) { id } }", key=key
    )
    assert found == {"duplicationByKey": None}


ACTIVE: list[dict[str, Any]] = [
    {"altcraft": {**ALTCRAFT, "kind": "TRIGGER", "isActive": True}},
    {"altcraft": {**ALTCRAFT, "isActive": True}},
    {"meta": {**META, "statusOption": "ACTIVE"}},
    {"meta": {**META, "statusOption": "INHERITED_FROM_SOURCE"}},
]
INACTIVE: list[dict[str, Any]] = [
    {"altcraft": {**ALTCRAFT, "kind": "TRIGGER", "isActive": False}},
    {"altcraft": {**ALTCRAFT, "kind": "TRIGGER", "isActive": None}},
    {"altcraft": ALTCRAFT},
    {"meta": {**META, "statusOption": "PAUSED"}},
    {"meta": META},
]


def named(copy_input: dict[str, Any]) -> dict[str, Any]:
    return {member: {**fields, "name": str(uuid.uuid4())} for member, fields in copy_input.items()}


@pytest.mark.parametrize("copy_input", ACTIVE)
def test_active_copy_needs_a_right_of_its_own(
    called: CalledGateway, copy_input: dict[str, Any]
) -> None:
    refused = called.client("web-team").copy(named(copy_input))
    assert (refused["status"], refused["duplication"]) == ("NOT_SENT", None)
    assert [error["code"] for error in refused["userErrors"]] == ["NOT_ALLOWED"]
    made = called.client("admin").copy(named(copy_input))
    assert (made["status"], made["userErrors"]) == ("CREATED", [])


@pytest.mark.parametrize("copy_input", INACTIVE)
def test_copy_that_starts_inactive_does_not(
    called: CalledGateway, copy_input: dict[str, Any]
) -> None:
    made = called.client("web-team").copy(named(copy_input))
    assert (made["status"], made["userErrors"]) == ("CREATED", [])


def test_active_copy_at_an_account_of_another_looks_like_any_other(called: CalledGateway) -> None:
    """The refusal must not depend on whether the account exists."""
    for account in ("altcraft", "no-such-account"):
        copy_input = {"altcraft": {**ALTCRAFT, "account": account, "isActive": True}}
        refused = called.client("store").copy(copy_input)
        assert [error["code"] for error in refused["userErrors"]] == ["UNKNOWN_ACCOUNT"]


INTROSPECTIONS = [
    "{ __schema { queryType { name } } }",
    '{ __type(name: "Query") { name } }',
    "{ _service { sdl } }",
]


@pytest.mark.parametrize("query", INTROSPECTIONS)
def test_introspection_needs_a_right_of_its_own(called: CalledGateway, query: str) -> None:
    # The other order would show a document that is cached for one caller to the other.
    for _ in range(2):
        assert called.client("admin").data(query)
        refused = called.client("web-team").post(query).json()
        assert [error["message"] for error in refused["errors"]] == [
            "Introspection is disabled on this gateway."
        ]


def test_names_are_suggested_only_to_callers_that_may_introspect(called: CalledGateway) -> None:
    query = "{ acounts { name } }"
    (suggested,) = called.client("admin").post(query).json()["errors"]
    (plain,) = called.client("web-team").post(query).json()["errors"]
    assert "Did you mean 'accounts'" in suggested["message"]
    assert "accounts" not in plain["message"]


def test_accounts_are_those_of_the_caller(called: CalledGateway) -> None:
    names = {
        caller: {
            each["name"] for each in called.client(caller).data("{ accounts { name } }")["accounts"]
        }
        for caller in ("admin", "store", "writer")
    }
    everything = {*altcraft.ACCOUNTS, *meta.ACCOUNTS, "braze", "sonarly"}
    assert names == {"admin": everything, "store": {"braze", "sonarly"}, "writer": {"sonarly"}}
