"""Backups of a ledger that is in use, and the rules for the time that a restored one has lost."""

import asyncio
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from campaign_gateway.duplication.lost_time import may_be_lost_copy, refuse_lost_key
from campaign_gateway.ledger import Ledger, declare_ledger_restored, open_ledger
from campaign_gateway.ledger.backup import back_up
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.ids import new_id, time_of
from campaign_gateway.model import Campaign, Intent, LostTime, Refused
from support.commands import run
from support.ledgers import connected

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
WEEK = timedelta(days=7)

MakeIntent = Callable[..., Intent]
Open = Callable[..., Awaitable[Ledger]]


# Backups


async def test_backup_has_one_state_of_a_ledger_that_is_written(
    sqlite_url: str, tmp_path: Path, open_at: Open, intent: MakeIntent
) -> None:
    ledger = await open_at(sqlite_url)
    backups = [tmp_path / f"backup-{number}" for number in range(3)]

    async def write() -> None:
        for number in range(300):
            name = f"Copy {number}"
            await ledger.begin(intent(f"k{number}", requested_name=name), NOW, None)

    writing = asyncio.create_task(write())
    for backup in backups:
        await asyncio.to_thread(back_up, sqlite_url, backup)
    await writing
    assert names_in(tmp_path) == [
        *(backup.name for backup in backups),
        *(f"ledger.db{ending}" for ending in ("", "-lock", "-shm", "-wal")),
    ]
    for backup in backups:
        assert mode_of(backup) == 0o600
        with connected(backup) as copy:
            keys = [key for (key,) in copy.execute("SELECT key FROM duplication")]
        assert sorted(keys) == sorted(f"k{number}" for number in range(len(keys)))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode_of(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


async def test_backup_never_replaces_a_file(
    sqlite_url: str, tmp_path: Path, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_at(sqlite_url)
    backup = tmp_path / "backup"
    backup.write_text("yesterday's")
    with pytest.raises(LedgerUnavailable, match="exists already; name a new file"):
        back_up(sqlite_url, backup)
    # The file may appear while the copy is written.
    monkeypatch.setattr(Path, "exists", lambda path: path != backup)
    with pytest.raises(LedgerUnavailable, match=r"the backup was not made: .*File exists"):
        back_up(sqlite_url, backup)
    assert backup.read_text() == "yesterday's"
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]


def test_backup_of_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'[ledger]\nurl = "sqlite:///{tmp_path}/none.db"\n')
    done = run("ledger", "backup", str(tmp_path / "backup"), "--config", str(config))
    assert done.returncode == 1
    assert done.stderr.endswith("none.db does not exist; a gateway creates it\n")
    with closing(sqlite3.connect(tmp_path / "none.db")):
        pass
    done = run("ledger", "backup", str(tmp_path / "backup"), "--config", str(config))
    assert "belongs to another version of the gateway" in done.stderr
    done = run("ledger", "backup", str(tmp_path / "no" / "backup"), "--config", str(config))
    assert "the backup was not made: [Errno 2] No such file or directory" in done.stderr
    assert not (tmp_path / "backup").exists()


async def test_backup_of_a_damaged_ledger_is_refused(
    sqlite_url: str, tmp_path: Path, open_at: Open, intent: MakeIntent
) -> None:
    ledger = await open_at(sqlite_url)
    for number in range(20):
        await ledger.begin(intent(f"k{number}", requested_name=f"{number}" * 500), NOW, None)
    await ledger.close()
    damage(tmp_path / "ledger.db")
    with pytest.raises(LedgerUnavailable, match=r"the backup was not made: .*(damaged|malformed)"):
        back_up(sqlite_url, tmp_path / "backup")
    assert "backup" not in "".join(names_in(tmp_path))


def damage(file: Path) -> None:
    """Overwrite the roots of the table and its indexes."""
    with file.open("r+b") as content:
        content.seek(4096)
        content.write(b"\xff" * 4096 * 12)


@pytest.mark.parametrize("problem", ["not installed", "failed"])
def test_dump_that_fails_leaves_no_file(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    asyncio.run(_create(postgres_url))
    if problem == "failed":
        program = tmp_path / "pg_dump"
        program.write_text("#!/bin/sh\necho a part\necho 'no: \"$*\" $PGPASSWORD' >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if problem == "failed" else str(tmp_path))
    secret = postgres_url.replace("postgres@", "postgres:sesame@")
    with pytest.raises(LedgerUnavailable) as caught:
        back_up(secret, tmp_path / "backup")
    assert "pg_dump" in str(caught.value) if problem == "not installed" else "no: "
    # Every user of the machine sees the arguments of a process.
    assert "sesame" not in str(caught.value).partition('" ')[0]
    assert not [name for name in names_in(tmp_path) if "backup" in name]


async def _create(url: str) -> None:
    await (await open_ledger(url)).close()


# What a copy has lost


async def test_ledger_that_is_in_use_is_not_declared_restored(url: str, open_at: Open) -> None:
    await open_at(url)
    with pytest.raises(LedgerUnavailable, match=r"in use by another gateway|Stop all of its"):
        await declare_ledger_restored(url, WEEK)


async def test_copy_without_a_mark_has_lost_what_came_after_its_last_record(
    url: str, open_at: Open, intent: MakeIntent
) -> None:
    nothing = await declare_ledger_restored(url, WEEK)
    assert nothing.began_at == datetime(1970, 1, 1, tzinfo=UTC), "all may be lost"
    ledger = await open_at(url)
    await ledger.begin(intent("k"), NOW, None)
    await ledger.close()
    lost = await declare_ledger_restored(url, WEEK)
    assert lost.began_at == NOW
    assert lost.refused_until - lost.ended_at == WEEK
    reopened = await open_at(url)
    assert list(reopened.lost_times) == [nothing, lost]
    assert [text[:23] for text in await reopened.check() if "restored" in text] == [
        "the ledger was restored"
    ] * 2
    assert await reopened.accept_all_keys()
    assert not await reopened.accept_all_keys()


LOST = LostTime(NOW - timedelta(hours=5), NOW - timedelta(hours=1), NOW + timedelta(hours=1))


class _Restored:
    """What `refuse_lost_key` reads of a ledger."""

    def __init__(self, now: datetime, *lost_times: LostTime) -> None:
        self.lost_times = lost_times
        self.now = lambda: now


def key_of(made_at: datetime) -> str:
    milliseconds = int(made_at.timestamp() * 1000)
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7abc-8abc-0123456789ab"


LATER = NOW + timedelta(days=100)


@pytest.mark.parametrize(
    ("key", "now", "is_refused"),
    [
        (key_of(NOW - timedelta(hours=2)), NOW, True),
        (key_of(NOW - timedelta(days=9)), NOW, True),
        (key_of(NOW - timedelta(hours=2)).upper(), LATER, True),
        (key_of(NOW), NOW, False),
        (key_of(NOW), LATER, False),
        (key_of(NOW + timedelta(days=2)), NOW, True),
        ("5f9a0c1e-6d1b-4a7e-8f55-0d1c7b2a9e31", NOW, True),
        ("order-7", NOW, True),
        ("order-7", NOW + timedelta(hours=1), False),
        (key_of(NOW).replace("-", ""), NOW, True),
    ],
)
def test_key_that_may_be_lost_is_refused(key: str, now: datetime, *, is_refused: bool) -> None:
    try:
        refuse_lost_key(_Restored(now, LOST), key)  # type: ignore[arg-type] # It has what is read.
    except Refused:
        assert is_refused
    else:
        assert not is_refused


def test_without_a_restore_no_key_is_refused() -> None:
    refuse_lost_key(_Restored(NOW), "order-7")  # type: ignore[arg-type] # It has what is read.


def test_time_of_an_id_is_when_it_was_made() -> None:
    made_at = time_of(new_id())
    assert made_at is not None
    assert abs(made_at - datetime.now(UTC)) < timedelta(seconds=5)
    assert time_of("5f9a0c1e-6d1b-4a7e-8f55-0d1c7b2a9e31") is None


@pytest.mark.parametrize(
    ("created", "offset", "is_lost"),
    [
        (-5.1, 0, False),
        (-5, 0, True),
        (-1, 0, True),
        (-0.9, 0, False),
        (-0.9, 600, True),
        (-5.1, -600, True),
        (None, 0, True),
    ],
)
def test_campaign_of_a_lost_time_has_no_certain_owner(
    created: float | None, offset: float, *, is_lost: bool
) -> None:
    created_at = None if created is None else NOW + timedelta(hours=created)
    campaign = Campaign("c", created_at=created_at)
    before = LOST.began_at - timedelta(minutes=1)
    assert may_be_lost_copy(campaign, timedelta(seconds=offset), before, [LOST]) is is_lost
    assert not may_be_lost_copy(campaign, timedelta(0), before, [])
    if created_at is None:
        assert not may_be_lost_copy(campaign, timedelta(0), LOST.ended_at, [LOST])
