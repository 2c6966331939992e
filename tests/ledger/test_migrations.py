"""Ledgers of earlier versions, brought up to date with everything that is in them."""

import hashlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
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

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
MICROS = 1777636800123456

# Of each released file, what it was when it was released.
RELEASED = {
    "sqlite/0001_duplication.sql": "b71071ab579f9a663612130714f5030f",
}

# As version 1 has written them, one of each status.
CAMPAIGN = (
    '{"id":"c9","name":"Copy","description":"","status":"DRAFT","provider_status":"draft",'
    '"tags":["a","b"],"created_at":"2026-05-01T12:00:00.123456Z","updated_at":null}'
)
ERROR = (
    '{"code":"%s","message":"said","field":["input","braze"],"retry_after":30,'
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

# What the first version did not record.
NEWER = {"preexisting_ids", "id_namespace"}

# What it called differently.
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
        # To rows from before there were platforms, each account is one.
        id_namespace="braze@braze",
    )


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


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


def test_a_released_file_is_never_changed() -> None:
    for name, fingerprint in RELEASED.items():
        text = resources.files(folder).joinpath(name).read_bytes()
        assert hashlib.sha256(text).hexdigest()[:32] == fingerprint, (
            f"{name}: add a new file instead"
        )


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_files_are_numbered_without_a_gap(engine: str) -> None:
    listed = resources.files(folder).joinpath(engine).iterdir()
    names = sorted(each.name for each in listed if each.name.endswith(".sql"))
    assert [name[:5] for name in names] == [f"{number:04}_" for number in range(1, len(names) + 1)]
    assert len(migrations(engine)) == len(names)


async def test_everything_in_a_ledger_of_version_1_is_kept(
    sqlite_url: str, path: Path, open_at: Open
) -> None:
    upgraded_at = datetime.now(UTC)
    ledger = await open_at(sqlite_url)
    listed = await ledger.list(None, Selection(), 10, None)
    found = {
        each.intent.key: whole
        for each in listed
        if (whole := await ledger.find("everyone", each.intent.key))
    }
    assert {key: each.status for key, each in found.items()} == {
        # Its gateway is gone, as after any restart.
        "IN_PROGRESS": DuplicationStatus.UNKNOWN,
        "UNKNOWN": DuplicationStatus.UNKNOWN,
        "ACCEPTED": DuplicationStatus.ACCEPTED,
        "CREATED": DuplicationStatus.CREATED,
        "REJECTED": DuplicationStatus.REJECTED,
    }
    for key, each in found.items():
        assert each.intent == intent_of(key)
        assert each.requested_at == NOW
        assert await ledger.get("everyone", each.intent.id) == each
        assert (each.candidates, each.expired) == ((), False)
    assert found["UNKNOWN"].checks == 3
    assert found["ACCEPTED"].provider_trace_id == "t"
    created = found["CREATED"]
    copy = Campaign("c9", "Copy", "", CampaignStatus.DRAFT, "draft", ("a", "b"), NOW)
    assert (created.campaign, created.evidence) == (copy, Evidence.INFERRED)
    assert created.settled_at == NOW + timedelta(microseconds=1)
    rejected = found["REJECTED"]
    assert rejected.error is not None
    assert (rejected.error.code, rejected.error.retry_after) == (ErrorCode.RATE_LIMITED, 30)

    due = await ledger.claim_due("braze", datetime.now(UTC), 10, upgraded_at + timedelta(hours=1))
    assert {each.intent.key for each in due} == {"IN_PROGRESS", "UNKNOWN", "ACCEPTED"}


# Two rows of one host, of which one has weaker evidence; two places behind one host and port, both
# with the provider's answer; and one of a kind.
OWNED = [
    ("API.example.com:443", "INFERRED"),
    ("api.example.com", "ANSWER"),
    ("api.example.com:8443", "ANSWER"),
    ("api.example.com:8443", "ANSWER"),
    ("H.com:443/p", "ANSWER"),
]


def owned_rows() -> Iterator[dict[str, object]]:
    """As the version before the one that gives each campaign one owner has written them."""
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


async def test_upgrade_gives_each_campaign_one_owner_in_sqlite(
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
    await each_campaign_has_one_owner(await open_at(sqlite_url))


async def test_upgrade_gives_each_campaign_one_owner_in_postgres(
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
    await each_campaign_has_one_owner(await open_at(postgres_url))


async def each_campaign_has_one_owner(ledger: Ledger) -> None:
    found = [await ledger.find("everyone", f"k{number}") for number in range(len(OWNED))]
    assert [each.intent.id_namespace for each in found if each] == [
        "braze@api.example.com",
        "braze@api.example.com",
        "braze@api.example.com:8443",
        "braze@api.example.com:8443#3",
        "braze@h.com#p",
    ]
    statuses = [each.status for each in found if each]
    assert statuses == [DuplicationStatus.UNKNOWN, *[DuplicationStatus.CREATED] * 4]
    loser = found[0]
    assert loser is not None
    assert (loser.campaign, loser.evidence, loser.settled_at) == (None, None, None)
    assert loser.error is not None
    assert loser.error.code is ErrorCode.OUTCOME_UNKNOWN
    assert [each.intent.key for each in await ledger.claim_due("braze", NOW, 10, NOW)] == ["k0"]


async def test_a_ledger_of_version_1_works_on(sqlite_url: str, path: Path, open_at: Open) -> None:
    ledger = await open_at(sqlite_url)
    late = await ledger.settle(intent_of("IN_PROGRESS"), Created(Campaign("late")), NOW, None)
    assert late.status is DuplicationStatus.CREATED
    corrected = await ledger.settle(intent_of("CREATED"), Created(Campaign("other")), NOW, None)
    assert corrected.campaign == Campaign("other"), "an answer outweighs what was read"
    for status in ROWS:
        mine = replace(intent_of(status), id="new", attempt_id="new")
        assert isinstance(await ledger.begin(mine, NOW, None), KeyHeld)
    assert await ledger.expire(NOW + timedelta(days=1), 10) == 3
    assert await ledger.forget(NOW + timedelta(days=1), 10) == 3
    left = await ledger.list(None, Selection(), 10, None)
    assert {each.intent.key for each in left} == {"UNKNOWN", "ACCEPTED"}


async def test_each_file_is_applied_once(sqlite_url: str, path: Path, open_at: Open) -> None:
    await (await open_at(sqlite_url)).close()
    with connected(path) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()
        upgraded = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
    assert version == (len(migrations("sqlite")),)
    await (await open_at(sqlite_url)).close()
    with connected(path) as connection:
        again = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
    assert again == upgraded


async def test_an_upgraded_ledger_is_as_a_new_one(
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


async def test_an_upgrade_that_fails_changes_nothing(
    sqlite_url: str, path: Path, open_at: Open
) -> None:
    with connected(path) as connection:
        # What the second file makes is there already, at its very end.
        connection.execute("ALTER TABLE duplication ADD COLUMN expired INTEGER")
    with pytest.raises(LedgerUnavailable, match="cannot be used: duplicate column name"):
        await open_at(sqlite_url)
    with connected(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        columns = [each[1] for each in connection.execute("PRAGMA table_info(duplication)")]
    assert "owner" not in columns
