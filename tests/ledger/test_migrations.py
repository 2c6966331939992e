"""Ledgers of earlier versions are migrated with all of their records."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import psycopg
import pytest

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger import migrations as folder
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.ledger import KeyHeld
from campaign_gateway.ledger.migrations import migrations
from campaign_gateway.model import (
    Campaign,
    CampaignStatus,
    Created,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Intent,
    Selection,
)
from support.ledgers import connected
from support.postgres import PostgresServer

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
MICROS = 1777636800123456

# The hash of each released file at its release.
RELEASED = {
    "postgres/0001_duplication.sql": "21b9afe00a7987b2677cfed2d03e6b52",
    "postgres/0002_warnings.sql": "e7a8bbf1ef7589c878cad75f2958abbd",
    "postgres/0003_owners.sql": "877b9b3b310159e74d53a3448e6c4352",
    "sqlite/0001_duplication.sql": "b71071ab579f9a663612130714f5030f",
    "sqlite/0002_unresolved.sql": "a019d327589e3b38ffffa1ebb8a66328",
    "sqlite/0003_warnings.sql": "271e820a62b17879a59bff19e231ae72",
    "sqlite/0004_owners.sql": "2577ea25187b55504ed0cde9ac2e309a",
}

# Rows as version 1 wrote them, one of each status.
CAMPAIGN = (
    '{"id":"c9","name":"Copy","description":"","status":"DRAFT","provider_status":"draft",'
    '"tags":["a","b"],"created_at":"2026-05-01T12:00:00.123456Z","updated_at":null}'
)
ERROR = (
    '{"code":"%s","message":"text","field":["input","braze"],"retry_after":30,'
    '"provider_code":"429","provider_message":"Slow!"}'
)
ROWS: dict[str, dict[str, object]] = {
    "IN_PROGRESS": {"next_check_at": None},
    "UNKNOWN": {"error": ERROR % "OUTCOME_UNKNOWN", "next_check_at": MICROS, "checks": 3},
    "ACCEPTED": {"evidence": "ANSWER", "provider_trace_id": "t", "next_check_at": MICROS},
    "CREATED": {
        "campaign_id": "c9",
        "campaign": CAMPAIGN,
        "evidence": "INFERRED",
        "settled_at": MICROS + 1,
    },
    "REJECTED": {
        "error": ERROR % "RATE_LIMITED",
        "evidence": "ANSWER",
        "settled_at": MICROS + 1,
    },
}

# Fields that version 1 did not record.
NEWER = {"override_of", "id_namespace", "caller", "person"}

# Columns that version 1 gave other names.
OLD_NAMES = {"attempt_id": "nonce"}

MakeIntent = Callable[..., Intent]
Open = Callable[..., Awaitable[Ledger]]


def intent_of(status: str) -> Intent:
    return Intent(
        id=f"01980000-0000-7000-8000-{list(ROWS).index(status):012}",
        attempt_id=f"nonce of {status}",
        scope="everyone",
        key=status,
        fingerprint="f",
        provider="braze",
        account="braze",
        source_campaign_id="c1",
        requested_name=f"Copy {status}",
        input='{"campaign_id": "c1"}',
        # The migration gives rows without a namespace their account as the namespace.
        id_namespace="braze@braze",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of version 1."""
    path = tmp_path / "ledger.db"
    with connected(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(migrations("sqlite")[0])
        connection.execute("PRAGMA user_version = 1")
        for status, fields in ROWS.items():
            intent = intent_of(status)
            row = {
                **{
                    OLD_NAMES.get(name, name): getattr(intent, name)
                    for name in Intent.__slots__
                    if name not in NEWER
                },
                "status": status,
                "requested_at": MICROS,
                **fields,
            }
            marks = ", ".join(f":{name}" for name in row)
            connection.execute(f"INSERT INTO duplication ({', '.join(row)}) VALUES ({marks})", row)
    return path


def test_released_migrations_are_unchanged() -> None:
    for name, fingerprint in RELEASED.items():
        text = resources.files(folder).joinpath(name).read_bytes()
        assert hashlib.sha256(text).hexdigest()[:32] == fingerprint, (
            f"{name}: add a new file instead"
        )


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_migrations_are_numbered_without_a_gap(engine: str) -> None:
    listed = resources.files(folder).joinpath(engine).iterdir()
    names = sorted(record.name for record in listed if record.name.endswith(".sql"))
    assert [name[:5] for name in names] == [f"{number:04}_" for number in range(1, len(names) + 1)]
    assert len(migrations(engine)) == len(names)


async def test_ledger_of_version_1_is_read_whole(
    sqlite_url: str, path: Path, open_at: Open
) -> None:
    upgraded_at = datetime.now(UTC)
    ledger = await open_at(sqlite_url)
    listed = await ledger.list(None, Selection(), 10, None)
    records = {
        record.intent.key: record
        for shown in listed
        if (record := await ledger.find("everyone", shown.intent.key))
    }
    assert {key: record.status for key, record in records.items()} == {
        # Its gateway has stopped.
        "IN_PROGRESS": DuplicationStatus.UNKNOWN,
        "UNKNOWN": DuplicationStatus.UNKNOWN,
        "ACCEPTED": DuplicationStatus.ACCEPTED,
        "CREATED": DuplicationStatus.CREATED,
        "REJECTED": DuplicationStatus.REJECTED,
    }
    for key, record in records.items():
        assert record.intent == intent_of(key)
        assert record.requested_at == NOW
        assert await ledger.get("everyone", record.intent.id) == record
        assert (record.candidates, record.expired) == ((), False)
    assert records["UNKNOWN"].checks == 3
    assert records["ACCEPTED"].provider_trace_id == "t"
    created = records["CREATED"]
    copy = Campaign("c9", "Copy", "", CampaignStatus.DRAFT, "draft", ("a", "b"), NOW)
    assert (created.campaign, created.evidence) == (copy, Evidence.INFERRED)
    assert created.settled_at == NOW + timedelta(microseconds=1)
    rejected = records["REJECTED"]
    assert rejected.error is not None
    assert (rejected.error.code, rejected.error.retry_after) == (ErrorCode.RATE_LIMITED, 30)

    due = await ledger.claim_due("braze", datetime.now(UTC), 10, upgraded_at + timedelta(hours=1))
    assert {record.intent.key for record in due} == {"IN_PROGRESS", "UNKNOWN", "ACCEPTED"}


# Two rows of one host, one of them with weaker evidence. Two rows of one host and port, both from
# responses, so two tenants share the port. One row with a kind of campaign.
OWNED = [
    ("API.example.com:443", "INFERRED"),
    ("api.example.com", "ANSWER"),
    ("api.example.com:8443", "ANSWER"),
    ("api.example.com:8443", "ANSWER"),
    ("H.com:443/p", "ANSWER"),
]


def owned_rows() -> Iterator[dict[str, object]]:
    """Return rows as the version wrote them that allowed several owners of a campaign."""
    for number, (host, evidence) in enumerate(OWNED):
        yield {
            **dict.fromkeys(("fingerprint", "nonce", "owner", "source_campaign_id"), ""),
            "id": f"{number}",
            "scope": "everyone",
            "key": f"k{number}",
            "input": "{}",
            "provider": "braze",
            "account": "braze",
            "name_key": "",
            "requested_at": MICROS,
            "platform": host,
            "evidence": evidence,
            "settled_at": MICROS,
            "status": "CREATED",
            "campaign_id": "c9",
            "campaign": CAMPAIGN,
        }


async def test_sqlite_upgrade_gives_each_campaign_one_owner(
    sqlite_url: str, tmp_path: Path, open_at: Open
) -> None:
    with connected(tmp_path / "ledger.db") as connection:
        connection.create_function("name_key", 1, lambda name: name)
        for script in migrations("sqlite")[:3]:
            connection.executescript(script)
        connection.execute("PRAGMA user_version = 3")
        for row in owned_rows():
            marks = ", ".join(f":{name}" for name in row)
            connection.execute(f"INSERT INTO duplication ({', '.join(row)}) VALUES ({marks})", row)
    await assert_each_campaign_has_one_owner(await open_at(sqlite_url))


async def test_postgres_upgrade_gives_each_campaign_one_owner(
    postgres_url: str, open_at: Open
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE ledger_version (version integer NOT NULL)")
        connection.execute("INSERT INTO ledger_version VALUES (2)")
        for script in migrations("postgres")[:2]:
            connection.execute(script.encode())
        for row in owned_rows():
            marks = ", ".join(f"%({name})s" for name in row)
            insert = f"INSERT INTO duplication ({', '.join(row)}) VALUES ({marks})"
            connection.execute(insert.encode(), row)
    await assert_each_campaign_has_one_owner(await open_at(postgres_url))


async def assert_each_campaign_has_one_owner(ledger: Ledger) -> None:
    records = [await ledger.find("everyone", f"k{number}") for number in range(len(OWNED))]
    assert [record.intent.id_namespace for record in records if record] == [
        "braze@api.example.com",
        "braze@api.example.com",
        "braze@api.example.com:8443",
        "braze@api.example.com:8443#3",
        "braze@h.com#p",
    ]
    statuses = [record.status for record in records if record]
    assert statuses == [DuplicationStatus.UNKNOWN, *[DuplicationStatus.CREATED] * 4]
    loser = records[0]
    assert loser is not None
    assert (loser.campaign, loser.evidence, loser.settled_at) == (None, None, None)
    assert loser.error is not None
    assert loser.error.code is ErrorCode.OUTCOME_UNKNOWN
    assert [record.intent.key for record in await ledger.claim_due("braze", NOW, 10, NOW)] == ["k0"]


async def test_upgraded_ledger_of_version_1_records_and_expires(
    sqlite_url: str, path: Path, open_at: Open
) -> None:
    ledger = await open_at(sqlite_url)
    late = await ledger.settle(intent_of("IN_PROGRESS"), Created(Campaign("late")), NOW, None)
    assert late.status is DuplicationStatus.CREATED
    corrected = await ledger.settle(intent_of("CREATED"), Created(Campaign("other")), NOW, None)
    assert corrected.campaign == Campaign("other"), "a response overwrites a search"
    for status in ROWS:
        mine = replace(intent_of(status), id="new", attempt_id="new")
        assert isinstance(await ledger.begin(mine, NOW, None), KeyHeld)
    assert await ledger.expire(NOW + timedelta(days=1), 10) == 3
    assert await ledger.forget(NOW + timedelta(days=1), 10) == 3
    left = await ledger.list(None, Selection(), 10, None)
    assert {record.intent.key for record in left} == {"UNKNOWN", "ACCEPTED"}


async def test_each_migration_is_applied_once(sqlite_url: str, path: Path, open_at: Open) -> None:
    await (await open_at(sqlite_url)).close()
    with connected(path) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()
        upgraded = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
    assert version == (len(migrations("sqlite")),)
    await (await open_at(sqlite_url)).close()
    with connected(path) as connection:
        again = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
    assert again == upgraded


async def test_upgraded_sqlite_ledger_has_the_schema_of_a_new_one(
    sqlite_url: str, path: Path, tmp_path: Path, open_at: Open
) -> None:
    await open_at(sqlite_url)
    await open_at(f"sqlite:///{tmp_path}/new.db")

    def shape(of: Path) -> list[object]:
        with connected(of) as connection:
            columns = connection.execute("PRAGMA table_info(duplication)").fetchall()
            indexes = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' ORDER BY name"
            return [columns, connection.execute(indexes).fetchall()]

    assert shape(path) == shape(tmp_path / "new.db")


async def test_upgraded_postgres_database_has_the_schema_of_a_new_one(
    postgres: PostgresServer, open_at: Open
) -> None:
    released = sum(name.startswith("postgres/") for name in RELEASED)

    def shape(url: str) -> list[object]:
        columns = (
            "SELECT column_name, data_type, is_nullable, column_default, collation_name"
            " FROM information_schema.columns WHERE table_name = 'duplication' ORDER BY 1"
        )
        indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'duplication'"
        with psycopg.connect(url) as connection:
            return [
                connection.execute(columns).fetchall(),
                sorted(connection.execute(indexes).fetchall()),
            ]

    shapes = []
    for version in (0, released):
        url = postgres.create_database()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE ledger_version (version integer NOT NULL)")
            for number, script in enumerate(migrations("postgres")[:version], start=1):
                connection.execute(script.encode())
                connection.execute("INSERT INTO ledger_version VALUES (%s)", [number])
        before = shape(url)
        await open_at(url)
        shapes.append(shape(url))
        assert shapes[-1] != before, "the present version has migrations of its own"
    new, upgraded = shapes
    assert upgraded == new


async def test_failed_upgrade_changes_nothing(sqlite_url: str, path: Path, open_at: Open) -> None:
    with connected(path) as connection:
        # The second migration creates this column at its end, and fails.
        connection.execute("ALTER TABLE duplication ADD COLUMN expired INTEGER")
    with pytest.raises(LedgerUnavailable, match="cannot be used: duplicate column name"):
        await open_at(sqlite_url)
    with connected(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        columns = [column[1] for column in connection.execute("PRAGMA table_info(duplication)")]
    assert "owner" not in columns
