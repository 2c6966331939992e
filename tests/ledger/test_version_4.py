"""A ledger of the released version 4, whose columns and values had other names, is read whole.

That version wrote `version_4.sqlite3.gz`: its sandbox over HTTP, its command `duplications
resolve`, and its `Ledger` for what no emulator causes. `version_4.json` has what that version then
read from it, in its own words.
"""

import gzip
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import TypeAdapter

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.ledger.ledger import Begun, Blocked, KeyHeld
from campaign_gateway.ledger.migrations import migrations
from campaign_gateway.ledger.rows import ABANDONED
from campaign_gateway.model import (
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Intent,
    Selection,
    WarningCode,
)
from campaign_gateway.sandbox.sandbox import sandbox
from support.correlated import without_id
from support.ledgers import as_listed, connected

FOLDER = Path(__file__).parent
FROZEN: dict[str, Any] = json.loads((FOLDER / "version_4.json").read_text("utf-8"))

# The names of the present version for what version 4 wrote.
FIELDS = {"nonce": "attempt_id", "platform": "id_namespace"}
EVIDENCE = {"ANSWER": "RESPONSE", "PERSON": "OPERATOR", "INFERRED": "INFERRED"}
WARNINGS = {
    "NOT_NAMED": "NAME_NOT_APPLIED",
    "NOT_READ": "DETAILS_UNKNOWN",
    "COPIED_IN_PART": "PARTIAL_COPY",
    "PROVIDER_WARNING": "PROVIDER_WARNING",
}

DUPLICATION = TypeAdapter(Duplication)

Open = Callable[..., Awaitable[Ledger]]


def renamed(record: Mapping[str, Any]) -> Duplication:
    intent = {FIELDS.get(name, name): value for name, value in record["intent"].items()}
    preexisting_ids = intent.pop("seen", None)
    warnings = [
        {**warning, "code": WARNINGS[warning["code"]]} for warning in record.get("warnings", [])
    ]
    fields = {
        **record,
        "intent": {"requested_name": None, **intent, "override_of": record.get("despite")},
        "evidence": EVIDENCE[record["evidence"]] if "evidence" in record else None,
        "warnings": warnings,
        "preexisting_ids": preexisting_ids,
    }
    return DUPLICATION.validate_json(json.dumps(fields))


RECORDS = [renamed(record) for record in FROZEN["records"]]
OVERRIDES = {
    record["intent"]["id"]: record["despite"] for record in FROZEN["records"] if "despite" in record
}


def as_after_a_restart(record: Duplication) -> Duplication:
    """Return the record as a SQLite ledger has it, whose one gateway has stopped meanwhile."""
    if record.status is not DuplicationStatus.IN_PROGRESS:
        return record
    return replace(record, status=DuplicationStatus.UNKNOWN, error=ABANDONED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the ledger of version 4."""
    path = tmp_path / "ledger.db"
    path.write_bytes(gzip.decompress((FOLDER / "version_4.sqlite3.gz").read_bytes()))
    return path


def load_into_postgres(path: Path, url: str) -> None:
    """Give a PostgreSQL database the tables of that version, and the same rows."""
    with connected(path) as connection:
        selected = connection.execute("SELECT * FROM duplication")
        columns, rows = [column[0] for column in selected.description], selected.fetchall()
    marks = ", ".join(["%s"] * len(columns))
    insert = f"INSERT INTO duplication ({', '.join(columns)}) VALUES ({marks})"
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("CREATE TABLE ledger_version (version integer NOT NULL)")
        for number, script in enumerate(migrations("postgres")[:3], start=1):
            database.execute(script.encode())
            database.execute("INSERT INTO ledger_version VALUES (%s)", [number])
        with database.cursor() as cursor:
            cursor.executemany(insert.encode(), [tuple(row) for row in rows])


@pytest.fixture(params=["sqlite", "postgres"])
def upgrade(
    request: pytest.FixtureRequest, path: Path, sqlite_url: str, open_at: Open
) -> Callable[[], Awaitable[tuple[Ledger, Sequence[Duplication]]]]:
    """Opens the ledger with the present version. Returns it, and the records it must contain."""

    async def open_upgraded() -> tuple[Ledger, Sequence[Duplication]]:
        if request.param == "sqlite":
            return await open_at(sqlite_url), [as_after_a_restart(record) for record in RECORDS]
        url = request.getfixturevalue("postgres_url")
        load_into_postgres(path, url)
        return await open_at(url), RECORDS

    return open_upgraded


Upgrade = Callable[[], Awaitable[tuple[Ledger, Sequence[Duplication]]]]


def by_key(key: str) -> Duplication:
    (record,) = [record for record in RECORDS if record.intent.key == key]
    return record


def test_frozen_ledger_has_a_row_of_every_kind() -> None:
    statuses_and_evidence = {(record.status, record.evidence) for record in RECORDS}
    assert {status for status, _ in statuses_and_evidence} == set(DuplicationStatus)
    assert {evidence for _, evidence in statuses_and_evidence} == {*Evidence, None}
    codes = {warning.code for record in RECORDS for warning in record.warnings}
    assert codes == set(WarningCode) - {WarningCode.NOT_APPLIED}
    assert any(record.expired for record in RECORDS)
    assert any(record.candidates for record in RECORDS)
    preexisting_ids = {record.preexisting_ids for record in RECORDS}
    assert {None, (), ("c7", "c8")} <= preexisting_ids
    assert len({record.intent.provider for record in RECORDS}) == 10
    assert {record.error.code for record in RECORDS if record.error} == {*ErrorCode} - {
        ErrorCode.NOT_ALLOWED
    }
    assert len(OVERRIDES) == 2
    assert '"assets": [{"type": "LANDING_PAGE"' in by_key("hubspot-assets").intent.input


async def test_every_record_of_version_4_is_read_with_the_new_names(upgrade: Upgrade) -> None:
    ledger, records = await upgrade()
    for record in records:
        intent = record.intent
        assert await ledger.find(intent.scope, intent.key) == record
        assert await ledger.get(intent.scope, intent.id) == (None if record.expired else record)
    listed = await ledger.list(None, Selection(), 1000, None)
    by_id = {record.intent.id: record for record in records}
    assert listed == [as_listed(by_id[duplication_id]) for duplication_id in FROZEN["listed"]]


async def test_texts_that_look_like_old_names_are_kept(upgrade: Upgrade) -> None:
    """Only the codes of warnings change: what a provider or the gateway wrote stays."""
    ledger, _ = await upgrade()
    record = await ledger.find("everyone", "all-warnings")
    assert record is not None
    assert record.campaign is not None
    assert record.campaign.name == 'Copy "code":"NOT_READ"'
    assert record.campaign.provider_status == "ANSWER"
    newer = {WarningCode.NOT_APPLIED}
    codes = [warning.code for warning in record.warnings]
    assert codes == [code for code in WarningCode if code not in newer]
    for warning, old_code in zip(record.warnings, WARNINGS, strict=True):
        text = 'Rule "code":"NOT_NAMED": ANSWER, PERSON, NOT_READ, COPIED_IN_PART.'
        assert (warning.message, warning.provider_message) == (f"{old_code} {text}", text)


async def test_overrides_of_version_4_still_count(upgrade: Upgrade) -> None:
    """An UNKNOWN duplication can be overridden once. A refused attempt does not count."""
    ledger, _ = await upgrade()
    assert await override_ids(ledger) == OVERRIDES
    first, second = by_key("chain-1").intent, by_key("chain-2").intent
    for outdated in (None, first.id):
        result = await ledger.begin(again(first, outdated), ledger.now(), None)
        assert isinstance(result, Blocked)
        assert result.record.intent.id == second.id
    assert await ledger.begin(again(first, second.id), ledger.now(), None) == Begun()
    refused = by_key("refused-override-1").intent
    assert await ledger.begin(again(refused, refused.id), ledger.now(), None) == Begun()
    assert isinstance(await ledger.begin(again(refused, refused.id), ledger.now(), None), Blocked)


async def override_ids(ledger: Ledger) -> dict[str, str]:
    statement = "SELECT id, override_of FROM duplication WHERE override_of IS NOT NULL"
    return {row["id"]: row["override_of"] for row in await ledger.engine.read(statement, {})}


def again(intent: Intent, override_of: str | None = None) -> Intent:
    """Return the same copy, requested with a new key."""
    return replace(intent, id=new_id(), attempt_id=new_id(), key=new_id(), override_of=override_of)


async def test_ledger_of_version_4_can_be_used_after_the_upgrade(upgrade: Upgrade) -> None:
    ledger, records = await upgrade()
    now = ledger.now()
    for record in records:
        repeated = replace(record.intent, id=new_id(), attempt_id=new_id())
        assert await ledger.begin(repeated, now, None) == KeyHeld(record)

    late = await ledger.settle(by_key("under-way").intent, Created(Campaign("late")), now, None)
    assert (late.status, late.evidence) == (DuplicationStatus.CREATED, Evidence.RESPONSE)
    for key in ("operator-absent", "operator-created", "inferred"):
        intent = by_key(key).intent
        settled = await ledger.settle(intent, Created(Campaign(f"of-{key}")), now, None)
        assert settled.evidence is Evidence.RESPONSE, "a response replaces weaker evidence"
        assert settled.campaign == Campaign(f"of-{key}")

    unknown = await ledger.find("everyone", "candidates")
    assert unknown is not None
    assert await ledger.settle_from_evidence(
        unknown, Created(Campaign("c10")), Evidence.OPERATOR, now, None
    )
    namespace = unknown.intent.id_namespace
    assert await ledger.known_copies(namespace, ["c10", "c11"]) == {"c10"}

    fresh = again(by_key("inferred").intent)
    assert await ledger.begin(fresh, now, None) == Begun()
    owned = await ledger.settle(fresh, Created(Campaign("of-inferred")), now, None)
    assert owned.status is DuplicationStatus.UNKNOWN, "the campaign has an owner already"

    expired = sum(record.expired for record in records)
    assert await ledger.forget(now, 100) == expired


# --- the keys of version 4, used again over HTTP --------------------------------------------------

MUTATION = """
mutation {{ duplicateCampaign(input: {{ {input} }}, idempotencyKey: "{key}"{override}) {{
  status replayed duplication {{ id evidence }} warnings {{ code }}
}} }}
"""


def make_recent(path: Path) -> None:
    """Move the records to the present, so that the retention keeps them."""
    newest = max(record.requested_at for record in RECORDS)
    passed = (datetime.now(UTC) - newest) // timedelta(microseconds=1)
    with connected(path) as connection:
        connection.execute(
            "UPDATE duplication SET requested_at = requested_at + :passed,"
            " settled_at = settled_at + :passed, next_check_at = NULL",
            {"passed": passed},
        )


async def test_key_of_version_4_is_replayed_over_http(path: Path) -> None:
    """The fingerprint of the same input must be the same. Otherwise a retry would be refused."""
    make_recent(path)
    async with (
        sandbox("127.0.0.1", 0, path) as running,
        httpx.AsyncClient(base_url=running.url, timeout=30, trust_env=False) as client,
    ):
        for call in FROZEN["calls"]:
            record = by_key(call["key"])
            override = record.intent.id in OVERRIDES and OVERRIDES[record.intent.id]
            argument = f', overrideDuplicationId: "{override}"' if override else ""
            query = MUTATION.format(input=call["input"], key=call["key"], override=argument)
            response = await client.post("/graphql", json={"query": query})
            assert without_id(response) == {
                "data": {
                    "duplicateCampaign": {
                        "status": record.status,
                        "replayed": True,
                        "duplication": {"id": record.intent.id, "evidence": record.evidence},
                        "warnings": [{"code": warning.code} for warning in record.warnings],
                    }
                }
            }
        for url in running.emulators.values():
            copies = (await client.get(f"{url}/_emulator/copies")).json()
            assert copies["asked"] == 0, "a replay sends nothing"
