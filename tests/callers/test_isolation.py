"""A caller learns nothing about another caller by any request.

Each request names something of another caller, and is sent again with something that does not exist
in its place. Both have to get the same bytes, by the same statements and provider calls.
"""

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
from graphql import GraphQLObjectType, GraphQLUnionType, get_named_type, parse

from campaign_gateway.api.schema import build_schema
from campaign_gateway.duplication import quotas
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.observe.correlation import correlation_id
from campaign_gateway.web.graphql_http import documents
from support.calling import CalledGateway, Client, sonarly_input
from support.correlated import without_id

OUTCOMES = {
    "CREATED": "507f1f77bcf86cd799439011",
    "UNKNOWN": "cut-after-copy",
    "REJECTED": "conflict",
}

# The caller `store` may use some of the accounts of `web-team`, which has made everything here.
SHARED, NOT_SHARED = "sonarly", "altcraft-xml"


@dataclass(frozen=True)
class Theirs:
    """What `web-team` has made."""

    ids: Mapping[str, str]
    keys: Mapping[str, str]
    campaigns: Mapping[str, str]
    cursors: Sequence[str]


@pytest.fixture(scope="module")
def theirs(called: CalledGateway) -> Theirs:
    client = called.client("web-team")
    keys = {status: f"key-of-{status}-{uuid.uuid4()}" for status in [*OUTCOMES, NOT_SHARED]}
    payloads = {
        status: client.copy(sonarly_input(f"Their {status}", source), keys[status])
        for status, source in OUTCOMES.items()
    }
    payloads[NOT_SHARED] = client.copy(
        {"altcraft": {"account": NOT_SHARED, "campaignId": 96, "name": "Their trigger"}},
        keys[NOT_SHARED],
    )
    assert {status: payloads[status]["status"] for status in OUTCOMES} == {
        status: status for status in OUTCOMES
    }
    listed = client.data("{ duplications { edges { cursor } } }")["duplications"]["edges"]
    return Theirs(
        ids={status: payload["duplication"]["id"] for status, payload in payloads.items()},
        keys=keys,
        campaigns={
            payload["campaign"]["account"]: payload["campaign"]["id"]
            for payload in payloads.values()
            if payload["campaign"]
        },
        cursors=[edge["cursor"] for edge in listed],
    )


@pytest.fixture
def me(called: CalledGateway) -> Client:
    return called.client("store")


SCHEMA = build_schema()

# Fields of both entities whose types differ.
BOTH = {"status"}


def everything(type_name: str, depth: int = 5, prefix: str = "") -> str:
    """Return a selection of all fields that the type has, and all that they have.

    With a prefix for their aliases, two types in one union may have fields of one name.
    """
    selected = SCHEMA.type_map[type_name]
    if isinstance(selected, GraphQLUnionType):
        parts = [
            f"... on {each.name} {everything(each.name, depth, each.name[0])}"
            for each in selected.types
        ]
        return f"{{ __typename {' '.join(parts)} }}"
    assert isinstance(selected, GraphQLObjectType)
    fields = []
    for name, field in selected.fields.items():
        inner = get_named_type(field.type)
        if not isinstance(inner, GraphQLObjectType):
            fields.append(f"{prefix}{name}: {name}" if prefix and name in BOTH else name)
        elif depth > 0:
            fields.append(f"{name} {everything(inner.name, depth - 1)}")
    return f"{{ {' '.join(fields)} }}"


DUPLICATION = everything("Duplication", 2)
PAYLOAD = everything("DuplicateCampaignPayload", 2)
CAMPAIGN = everything("Campaign")
CONNECTION = everything("DuplicationConnection", 3)
ENTITIES = (
    f"query E($all: [_Any!]!) {{ _entities(representations: $all) {everything('_Entity', 2)} }}"
)
MUTATION = f"""mutation M($input: DuplicateCampaignInput!, $key: String!, $override: ID) {{
  duplicateCampaign(input: $input, idempotencyKey: $key, overrideDuplicationId: $override)
  {PAYLOAD} }}"""


class Watched:
    """What one request costs: the ledger's statements, without their values, and their rows."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    @contextmanager
    def watch(self, called: CalledGateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        engine: Any = called.gateway.ledger.engine

        def watching(execute: Callable[..., Any]) -> Callable[..., Any]:
            async def run(statement: str, values: Any, **more: Any) -> Any:
                rows = await execute(statement, values, **more)
                # Background tasks read the ledger too, at any time, and belong to no request.
                if correlation_id() is None:
                    return rows
                self.statements.append(f"{' '.join(statement.split())} -> {len(rows)} rows")
                return rows

            return run

        with monkeypatch.context() as patched:
            patched.setattr(engine, "read", watching(engine.read))
            patched.setattr(engine, "write", watching(engine.write))
            yield


@pytest.fixture
def assert_same(
    called: CalledGateway, me: Client, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Sends both requests, and returns the response if nothing but the named values differs."""
    # Otherwise it depends on the time which requests count the UNKNOWN duplications.
    monkeypatch.setattr(quotas, "UNKNOWN_SECONDS", 0.0)

    def compare(query: str, of_theirs: dict[str, Any], missing: dict[str, Any]) -> Any:
        bodies, costs = [], []
        for variables in (of_theirs, missing):
            watched, asked = Watched(), asked_at_providers(called)
            with watched.watch(called, monkeypatch):
                response = me.post(query, **variables)
            content = without_id(response)
            text = json.dumps(content)
            # A request may get back only what it has sent.
            for value in texts_in(variables):
                text = text.replace(json.dumps(value)[1:-1], "...")
            headers = {
                k: v for k, v in response.headers.items() if k not in {"date", "content-length"}
            }
            bodies.append((response.status_code, headers, text))
            costs.append((watched.statements, asked_at_providers(called) - asked))
        assert bodies[0] == bodies[1]
        assert costs[0] == costs[1]
        return content

    return compare


def asked_at_providers(called: CalledGateway) -> int:
    connectors: list[Any] = [account.connector for account in called.gateway.accounts.values()]
    urls = {connector.account.root for connector in connectors}
    return sum(called.http.get(f"{url}/_emulator/copies").json()["asked"] for url in urls)


def texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts_in(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts_in(each)]
    return []


STATUSES = [*OUTCOMES, NOT_SHARED]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("wait", [0, 1])
def test_duplication_by_id(
    theirs: Theirs, assert_same: Callable[..., Any], status: str, wait: int
) -> None:
    query = f"""query D($id: ID!, $wait: Int!) {{
      duplication(id: $id, waitSeconds: $wait) {DUPLICATION} }}"""
    for spell in (str, str.upper, lambda each: each.replace("-", "")):
        answer = assert_same(
            query,
            {"id": spell(theirs.ids[status]), "wait": wait},
            {"id": spell(new_id()), "wait": wait},
        )
        assert answer == {"data": {"duplication": None}}


@pytest.mark.parametrize("status", STATUSES)
def test_duplication_by_key(theirs: Theirs, assert_same: Callable[..., Any], status: str) -> None:
    query = f"query D($key: String!) {{ duplicationByKey(idempotencyKey: $key) {DUPLICATION} }}"
    answer = assert_same(query, {"key": theirs.keys[status]}, {"key": f"no-{uuid.uuid4()}"})
    assert answer == {"data": {"duplicationByKey": None}}


def test_campaign_at_an_account_of_another(theirs: Theirs, assert_same: Callable[..., Any]) -> None:
    query = f"""query C($account: String!, $id: ID!) {{
      campaign(account: $account, id: $id) {CAMPAIGN} }}"""
    copy = theirs.campaigns[NOT_SHARED]
    for campaign_id in (copy, "96", "0"):
        answer = assert_same(
            query,
            {"account": NOT_SHARED, "id": campaign_id},
            {"account": "no-such-account", "id": campaign_id},
        )
        assert answer["data"] == {"campaign": None}
        assert "There is no account with this name" in answer["errors"][0]["message"]


def test_copy_of_another_at_a_shared_account(
    theirs: Theirs, assert_same: Callable[..., Any]
) -> None:
    """Only the record of the other caller has the account group, which the read needs."""
    query = f"""query C($account: String!, $id: ID!) {{
      campaign(account: $account, id: $id) {CAMPAIGN} }}"""
    assert_same(
        query,
        {"account": SHARED, "id": theirs.campaigns[SHARED]},
        {"account": SHARED, "id": "0" * 24},
    )


def test_entities(theirs: Theirs, assert_same: Callable[..., Any]) -> None:
    def both(account: str, campaign_id: str, duplication_id: str) -> dict[str, Any]:
        campaign = {"__typename": "Campaign", "account": account, "id": campaign_id}
        duplication = {"__typename": "Duplication", "id": duplication_id}
        return {"all": [campaign, duplication, campaign]}

    for status, duplication_id in theirs.ids.items():
        account = NOT_SHARED if status == NOT_SHARED else SHARED
        there = "no-such-account" if status == NOT_SHARED else SHARED
        copy = theirs.campaigns[account]
        answer = assert_same(
            ENTITIES, both(account, copy, duplication_id), both(there, "0" * len(copy), new_id())
        )
        assert answer["data"] == {"_entities": [None, None, None]}


def test_lists_have_only_one_s_own(theirs: Theirs, me: Client, called: CalledGateway) -> None:
    mine = me.copy(sonarly_input("Mine"))["duplication"]["id"]
    query = f"query L($after: String) {{ duplications(after: $after) {CONNECTION} }}"
    for after in (None, *theirs.cursors):
        text = me.post(query, after=after).text
        for foreign in (*theirs.ids.values(), *theirs.keys.values(), "Their", *theirs.cursors):
            assert foreign not in text.replace(f'"{after}"', "")
    assert mine in me.post(query).text
    # The other caller sees its own and not mine.
    everything_of_theirs = called.client("web-team").post(query).text
    assert mine not in everything_of_theirs
    assert all(each in everything_of_theirs for each in theirs.ids.values())


FILTERS: list[dict[str, Any]] = [
    {"account": NOT_SHARED},
    {"account": NOT_SHARED, "status": "CREATED"},
    {"account": NOT_SHARED, "requestedSince": "2020-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("selection", FILTERS)
def test_filters_by_an_account_of_another(
    theirs: Theirs, assert_same: Callable[..., Any], selection: dict[str, Any]
) -> None:
    query = f"query L($f: DuplicationFilter) {{ duplications(filter: $f) {CONNECTION} }}"
    missing = {**selection, "account": "no-such-account"}
    answer = assert_same(query, {"f": selection}, {"f": missing})
    assert answer["data"]["duplications"]["edges"] == []


def test_cursor_of_another_is_only_a_time(theirs: Theirs, me: Client) -> None:
    query = f"query L($after: String) {{ duplications(after: $after) {CONNECTION} }}"
    for cursor in theirs.cursors:
        decoded = base64.urlsafe_b64decode(cursor)
        same_time = base64.urlsafe_b64encode(decoded[:8] + uuid.UUID(new_id()).bytes).decode()
        pages = [without_id(me.post(query, after=each)) for each in (cursor, same_time)]
        assert pages[0] == pages[1]


def test_document_of_another_is_not_remembered(
    called: CalledGateway, me: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remembered document takes less time, so the time would tell that another has sent it."""
    parsed: list[str] = []

    def counted(text: str, **more: Any) -> Any:
        parsed.append(text)
        return parse(text, **more)

    monkeypatch.setattr(documents, "parse", counted)
    query = f'{{ campaign(account: "{NOT_SHARED}", id: "{uuid.uuid4()}") {{ name }} }}'
    times = []
    for client in (called.client("web-team"), me, me):
        parsed.clear()
        client.post(query)
        times.append(len(parsed))
    assert times[0] == times[1] > 0
    assert times[2] == 0


# A value for each way to select duplications, besides the cursor.
SELECTIONS: dict[str, str] = {
    "status": "CREATED",
    "provider": "SONARLY",
    "account": SHARED,
    "requestedSince": "2020-01-01T00:00:00Z",
    "requestedBefore": "2120-01-01T00:00:00Z",
}


def test_records_of_another_cost_no_time(
    theirs: Theirs, me: Client, called: CalledGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By how the database plans each read: it searches the caller's records, or one id."""
    engine: Any = called.gateway.ledger.engine
    statements: dict[str, Any] = {}
    read = engine.read

    async def watched(statement: str, values: Any) -> Any:
        statements[statement] = values
        return await read(statement, values)

    monkeypatch.setattr(engine, "read", watched)
    query = """query L($after: String, $f: DuplicationFilter) {
      duplications(after: $after, filter: $f) { edges { cursor } } }"""
    for count in range(len(SELECTIONS) + 1):
        for names in combinations(SELECTIONS, count):
            selection = {name: SELECTIONS[name] for name in names}
            for after in (None, theirs.cursors[0]):
                assert "errors" not in me.post(query, after=after, f=selection).json()
    me.post(f'{{ campaign(account: "{SHARED}", id: "0") {{ id }} }}')
    me.post(f'{{ duplicationByKey(idempotencyKey: "{theirs.keys["CREATED"]}") {{ id }} }}')
    me.post(f'{{ duplication(id: "{theirs.ids["CREATED"]}") {{ id }} }}')
    me.post(ENTITIES, all=[{"__typename": "Duplication", "id": new_id()}])
    assert len(statements) > 2 ** len(SELECTIONS) * 2
    own = re.compile(r"scope=\?|\(id=\?|\(account=\? AND campaign_id=\?")
    for statement, values in statements.items():
        plan = engine._reader.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        steps = [detail for *_, detail in plan if "duplication" in detail]
        assert steps, statement
        assert all(own.search(step) for step in steps), (statement, steps)


def test_accounts(theirs: Theirs, me: Client) -> None:
    assert NOT_SHARED not in me.post("{ accounts { name provider capabilities } }").text


def altcraft_input(account: str | None, **more: object) -> dict[str, Any]:
    return {"altcraft": {"account": account, "campaignId": 96, "name": "Copy", **more}}


def test_mutation_at_an_account_of_another(theirs: Theirs, assert_same: Callable[..., Any]) -> None:
    for key in ("mine", theirs.keys[NOT_SHARED]):
        for more in ({}, {"isActive": True}, {"campaignId": -1}):
            answer = assert_same(
                MUTATION,
                {"input": altcraft_input(NOT_SHARED, **more), "key": key},
                {"input": altcraft_input("no-such-account", **more), "key": key},
            )
            (error,) = answer["data"]["duplicateCampaign"]["userErrors"]
            assert error["code"] == "UNKNOWN_ACCOUNT"


def test_number_of_accounts_of_a_provider_is_not_told(me: Client) -> None:
    """The other caller has several, and the message for several is another one."""
    payload = me.data(MUTATION, input=altcraft_input(None), key="none")["duplicateCampaign"]
    assert payload["userErrors"][0]["message"] == "No altcraft account is configured."


def test_key_of_another_is_unused(theirs: Theirs, me: Client) -> None:
    for status, key in theirs.keys.items():
        mine = me.copy(sonarly_input(f"Mine with the key of {status}"), key)
        assert (mine["status"], mine["replayed"], mine["userErrors"]) == ("CREATED", False, [])
        assert mine["duplication"]["id"] not in theirs.ids.values()


# What guards the campaigns of an account holds for all callers.


def test_unknown_copy_of_another_blocks_and_shows_nothing(
    theirs: Theirs, assert_same: Callable[..., Any], called: CalledGateway
) -> None:
    same = sonarly_input("Their UNKNOWN", OUTCOMES["UNKNOWN"])
    key = str(uuid.uuid4())
    asked = asked_at_providers(called)
    for override in (None, theirs.ids["UNKNOWN"]):
        answer = assert_same(
            MUTATION,
            {"input": same, "key": key, "override": override},
            {"input": same, "key": key, "override": override and new_id()},
        )
        payload = answer["data"]["duplicateCampaign"]
        assert (payload["status"], payload["duplication"]) == ("NOT_SENT", None)
        (error,) = payload["userErrors"]
        assert error["code"] == "UNRESOLVED_DUPLICATION"
        # Not WAIT, because this caller has no duplication whose end it could wait for.
        assert (error["retry"], error["retryAfterSeconds"]) == ("SAME_KEY", 60)
        assert not re.search("|".join(theirs.ids.values()), json.dumps(answer))
    assert asked_at_providers(called) == asked


def test_settled_copy_of_another_cannot_be_overridden_either(
    theirs: Theirs, assert_same: Callable[..., Any]
) -> None:
    answer = assert_same(
        MUTATION,
        {"input": sonarly_input("New"), "key": "new", "override": theirs.ids["CREATED"]},
        {"input": sonarly_input("New"), "key": "new", "override": new_id()},
    )
    (error,) = answer["data"]["duplicateCampaign"]["userErrors"]
    assert (error["code"], error["field"]) == ("INVALID_INPUT", ["overrideDuplicationId"])


def test_copy_of_another_that_starts_at_the_same_moment_is_a_copy_of_its_own(
    called: CalledGateway,
) -> None:
    copies = {
        caller: called.client(caller).copy(sonarly_input("Both"), "both")
        for caller in ("web-team", "store")
    }
    assert {each["status"] for each in copies.values()} == {"CREATED"}
    assert len({each["campaign"]["id"] for each in copies.values()}) == 2
