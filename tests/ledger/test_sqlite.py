"""What only SQLite has: one file, one gateway, one writing thread, and a disk."""

import asyncio
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.ledger import Ledger, sql, sqlite, writer
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.sqlite import SqliteEngine
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Created,
    DuplicationStatus,
    ErrorCode,
    Intent,
    Outcome,
    Rejected,
    Selection,
    Unknown,
    UserError,
)
from support.ledgers import connected, status_of

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
COPY = Campaign("c9", name="Copy")
UNKNOWN = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no response"))
REJECTED = Rejected(UserError(ErrorCode.CONFLICT, "no"))

MakeIntent = Callable[..., Intent]
Open = Callable[..., Awaitable[Ledger]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(sqlite_url: str, open_at: Open) -> Ledger:
    return await open_at(sqlite_url)


def snapshot(path: Path, to: Path, torn: bytes) -> None:
    """Copy the ledger, with a log that ends in the middle of a frame."""
    shutil.copy(path, to)
    log = Path(f"{path}-wal").read_bytes()
    # Old frames look complete, as in a log that SQLite has restarted.
    Path(f"{to}-wal").write_bytes(log + log[32:4152] + torn)


def is_there(path: Path) -> bool:
    return path.exists()


def delete(path: Path) -> None:
    path.unlink()


def engine_of(ledger: Ledger) -> SqliteEngine:
    assert isinstance(ledger.engine, SqliteEngine)
    return ledger.engine


def connection_of(ledger: Ledger) -> sqlite3.Connection:
    """Return the writing connection."""
    return engine_of(ledger).writer.connection


@asynccontextmanager
async def occupied(ledger: Ledger) -> AsyncIterator[None]:
    """Keep the writer busy, so that all writes meanwhile share one COMMIT."""
    is_free = threading.Event()
    connection_of(ledger).create_function("wait_for_it", 0, lambda: is_free.wait(10))
    waiting = asyncio.create_task(ledger.engine.write("SELECT wait_for_it()", {}))
    await asyncio.sleep(0.05)
    yield
    await asyncio.sleep(0.05)
    is_free.set()
    await waiting


def python(script: str, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


# --- restarts -------------------------------------------------------------------------------------


async def test_restart_makes_attempts_in_progress_unknown_and_keeps_the_rest(
    sqlite_url: str, open_at: Open, intent: MakeIntent
) -> None:
    before = await open_at(sqlite_url)
    ends: dict[str, Outcome] = {
        "created": Created(COPY, "trace"),
        "accepted": Accepted(),
        "rejected": REJECTED,
        "unknown": UNKNOWN,
    }
    for key, outcome in ends.items():
        mine = intent(key, requested_name=key)
        await before.begin(mine, NOW, ("c1",))
        await before.settle(mine, outcome, NOW, NOW + timedelta(days=999999))
    under_way = intent("under way")
    await before.begin(under_way, NOW, None)
    records = [await before.find("everyone", key) for key in ends]
    await before.close()

    restarted_at = datetime.now(UTC)
    after = await open_at(sqlite_url)
    assert [await after.find("everyone", key) for key in ends] == records
    orphan = await after.find("everyone", "under way")
    assert orphan is not None
    assert orphan.intent == under_way
    assert orphan.status is DuplicationStatus.UNKNOWN
    assert orphan.error is not None
    assert orphan.error.code is ErrorCode.OUTCOME_UNKNOWN
    due = await after.claim_due("braze", datetime.now(UTC), 10, restarted_at + timedelta(minutes=1))
    assert [record.intent for record in due] == [under_way]


async def test_attempt_settles_after_a_restart_has_abandoned_it(
    sqlite_url: str, open_at: Open, intent: MakeIntent
) -> None:
    mine = intent("k")
    before = await open_at(sqlite_url)
    await before.begin(mine, NOW, None)
    await before.close()
    after = await open_at(sqlite_url)
    assert await status_of(after, "k") is DuplicationStatus.UNKNOWN
    settled = await after.settle(mine, Created(COPY), LATER, None)
    assert (settled.status, settled.campaign) == (DuplicationStatus.CREATED, COPY)
    assert await after.claim_due("braze", datetime.now(UTC), 10, LATER) == []


async def test_torn_end_of_the_log_loses_no_confirmed_write(
    ledger: Ledger, path: Path, tmp_path: Path, open_at: Open, intent: MakeIntent
) -> None:
    for number in range(20):
        await ledger.begin(intent(f"k{number}"), NOW, None)
    snapshot(path, tmp_path / "torn.db", b"garbage")
    torn = await open_at(f"sqlite:///{tmp_path}/torn.db")
    listed = await torn.list(None, Selection(), 50, None)
    assert len(listed) == 20


async def test_restored_backup_is_not_mixed_with_a_newer_log(
    sqlite_url: str, path: Path, tmp_path: Path, open_at: Open, intent: MakeIntent
) -> None:
    for key in ("old", "new"):
        ledger = await open_at(sqlite_url)
        await ledger.begin(intent(key, requested_name=key), NOW, None)
        await ledger.close()
        shutil.copy(path, tmp_path / key)
    shutil.copy(tmp_path / "old", path)
    ledger = await open_at(sqlite_url)
    assert await status_of(ledger, "old") is DuplicationStatus.UNKNOWN
    assert await status_of(ledger, "new") is None
    with connected(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_failed_start_keeps_records_that_only_the_log_has(
    ledger: Ledger,
    path: Path,
    tmp_path: Path,
    open_at: Open,
    intent: MakeIntent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await ledger.begin(intent("k"), NOW, None)
    killed = tmp_path / "killed.db"
    snapshot(path, killed, b"")
    with monkeypatch.context() as earlier:
        earlier.setattr(sqlite, "migrations", lambda _engine: [])
        with pytest.raises(LedgerUnavailable, match="newer version"):
            await open_at(f"sqlite:///{killed}")
    assert await status_of(await open_at(f"sqlite:///{killed}"), "k") is DuplicationStatus.UNKNOWN


async def test_reserve_that_a_kill_left_in_a_table_is_freed(
    sqlite_url: str, path: Path, open_at: Open
) -> None:
    ledger = await open_at(sqlite_url)
    await ledger.check()
    connection = connection_of(ledger)
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    connection.execute("CREATE TABLE room (zeros BLOB)")
    connection.execute("INSERT INTO room VALUES (zeroblob(?))", [(free - 10) * 4096])
    assert connection.execute("PRAGMA freelist_count").fetchone()[0] < 10
    await ledger.close()
    connection = connection_of(await open_at(sqlite_url))
    assert connection.execute("PRAGMA freelist_count").fetchone()[0] > free - 10


async def test_ballast_file_of_earlier_versions_is_removed(
    sqlite_url: str, path: Path, open_at: Open
) -> None:
    ballast = path.with_name("ledger.db-ballast")
    ballast.write_bytes(bytes(4096))
    await open_at(sqlite_url)
    assert not is_there(ballast)


# --- one file, one gateway ------------------------------------------------------------------------


async def test_second_gateway_cannot_open_the_file(
    ledger: Ledger, sqlite_url: str, open_at: Open
) -> None:
    with pytest.raises(LedgerUnavailable, match="in use by another gateway; stop that one"):
        await open_at(sqlite_url)
    await ledger.check()
    await ledger.close()
    await (await open_at(sqlite_url)).check()


async def test_second_gateway_cannot_open_the_file_through_a_link(
    ledger: Ledger, path: Path, tmp_path: Path, open_at: Open
) -> None:
    (tmp_path / "link.db").symlink_to(path)
    with pytest.raises(LedgerUnavailable, match="in use by another gateway"):
        await open_at(f"sqlite:///{tmp_path}/link.db")


@pytest.mark.parametrize("as_operator", [False, True])
async def test_newer_ledger_is_refused_and_unchanged(
    sqlite_url: str, path: Path, open_at: Open, *, as_operator: bool
) -> None:
    await (await open_at(sqlite_url)).close()
    with connected(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerUnavailable, match=r"newer version|another version"):
        await open_at(sqlite_url, as_operator=as_operator)
    with connected(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)


async def test_file_that_is_not_a_ledger_is_refused(tmp_path: Path, open_at: Open) -> None:
    (tmp_path / "letter.db").write_text("Dear all,\n" * 1000)
    with connected(tmp_path / "theirs.db") as theirs:
        theirs.execute("PRAGMA user_version = 2")
        theirs.execute("CREATE TABLE letters (id)")
    with connected(tmp_path / "torn.db") as torn:
        torn.execute("CREATE TABLE many AS SELECT hex(randomblob(9000))")
    (tmp_path / "torn.db").write_bytes((tmp_path / "torn.db").read_bytes()[:5000])
    for name in ("letter.db", "theirs.db", "torn.db", "", "no/such/folder.db"):
        with pytest.raises(LedgerUnavailable, match="cannot be used"):
            await open_at(f"sqlite:///{tmp_path}/{name}")
    assert (tmp_path / "letter.db").read_text().startswith("Dear all,")


# --- durable before it is confirmed ---------------------------------------------------------------


async def test_commits_are_synchronous(ledger: Ledger) -> None:
    pragma = connection_of(ledger).execute
    assert pragma("PRAGMA synchronous").fetchone()[0] == 2
    assert pragma("PRAGMA journal_mode").fetchone()[0] == "wal"


async def test_write_is_confirmed_only_after_its_commit(
    ledger: Ledger, path: Path, intent: MakeIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed: list[set[str]] = []
    deliver = writer._deliver

    def look_and_deliver(batch: Sequence[writer._Write]) -> None:
        with connected(path) as connection:
            rows = connection.execute("SELECT key || status FROM duplication")
            observed.append({key for (key,) in rows})
        deliver(batch)

    monkeypatch.setattr(writer, "_deliver", look_and_deliver)
    mine = [intent(f"k{number}") for number in range(8)]
    for my_intent in mine:
        await ledger.begin(my_intent, NOW, None)
        assert f"{my_intent.key}IN_PROGRESS" in observed[-1]
    for my_intent in mine:
        await ledger.settle(my_intent, REJECTED, NOW, None)
        assert f"{my_intent.key}REJECTED" in observed[-1]
    del observed[:]
    more = [intent(f"m{number}") for number in range(32)]
    await asyncio.gather(*(ledger.begin(intent, NOW, None) for intent in more))
    first_observed = observed[0]
    assert len(first_observed) > len(mine), "one COMMIT writes several rows"


async def test_batch_waits_for_more_writes_only_after_one_that_had_several(
    ledger: Ledger, intent: MakeIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    for number in range(8):
        await ledger.begin(intent(f"alone{number}"), NOW, None)
    assert waits == [], "a single caller never waits for others"
    for group in range(2):
        many = [intent(f"{group}-{number}") for number in range(32)]
        await asyncio.gather(*(ledger.begin(intent, NOW, None) for intent in many))
    assert set(waits) == {writer.GATHER_SECONDS}
    del waits[:]
    await ledger.begin(intent("one"), NOW, None)
    await ledger.begin(intent("two"), NOW, None)
    assert len(waits) <= 1, "after others have ended, one write waits at most"


CONFIRMING = """
import asyncio, os, sys
from datetime import UTC, datetime
from campaign_gateway.ledger import open_ledger
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.model import Campaign, Created, Intent

async def main():
    ledger = await open_ledger(sys.argv[1])
    async def copy(caller):
        for number in range(10**6):
            key = f"{caller}-{number}"
            intent = Intent(new_id(), new_id(), "everyone", key, "f", "p", "a", "c1", key, "{}")
            await ledger.begin(intent, datetime.now(UTC), None)
            os.write(1, f"{key} IN_PROGRESS\\n".encode())
            await ledger.settle(intent, Created(Campaign(key)), datetime.now(UTC), None)
            os.write(1, f"{key} CREATED\\n".encode())
    await asyncio.gather(*(copy(caller) for caller in range(16)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 40, 1500])
async def test_kill_loses_no_confirmed_write(sqlite_url: str, open_at: Open, lines: int) -> None:
    with python(CONFIRMING, sqlite_url) as gateway:
        assert gateway.stdout is not None
        confirmed = [gateway.stdout.readline() for _ in range(lines)]
        gateway.send_signal(signal.SIGKILL)
        confirmed += [line for line in gateway.stdout if line.endswith("\n")]
    ledger = await open_at(sqlite_url)
    last_confirmed = dict(line.split() for line in confirmed)
    assert last_confirmed
    for key, status in last_confirmed.items():
        recorded = await status_of(ledger, key)
        # A status that was committed, but not confirmed yet, is possible too.
        possible = {status, "CREATED"} if status == "CREATED" else {"UNKNOWN", "CREATED"}
        assert recorded in possible


async def test_concurrent_writes_share_a_commit(ledger: Ledger, intent: MakeIntent) -> None:
    statements: list[str] = []
    connection_of(ledger).set_trace_callback(statements.append)

    async def call(number: int) -> None:
        for turn in range(5):
            mine = intent(f"{number}-{turn}", requested_name=f"{number}-{turn}")
            await ledger.begin(mine, NOW, None)
            await ledger.settle(mine, UNKNOWN, NOW, None)

    await asyncio.gather(*(call(number) for number in range(64)))
    writes, commits = 64 * 5 * 2, statements.count("COMMIT")
    assert len(await ledger.list(None, Selection(), 1000, None)) == writes / 2
    assert commits < writes / 8


# --- writes that fail -----------------------------------------------------------------------------


async def test_failed_commit_fails_every_caller_and_leaves_the_ledger_usable(
    ledger: Ledger, path: Path, intent: MakeIntent
) -> None:
    connection_of(ledger).execute("PRAGMA busy_timeout = 50")
    attempts = [intent(f"k{number}") for number in range(5)]
    with connected(path) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(40):
            results = await asyncio.gather(
                *(ledger.begin(intent, NOW, None) for intent in attempts), return_exceptions=True
            )
        assert all(isinstance(result, LedgerUnavailable) for result in results)
        with pytest.raises(LedgerUnavailable, match="locked"):
            await ledger.check()
        blocker.execute("ROLLBACK")
    await ledger.check()
    assert await ledger.list(None, Selection(), 10, None) == []
    for begun_intent in attempts:
        await ledger.begin(begun_intent, NOW, None)


async def test_ledger_that_passes_its_check_has_space_for_an_intent(
    ledger: Ledger, intent: MakeIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(ledger.engine, SqliteEngine)
    reserve = ledger.engine.writer.reserve
    assert reserve is not None

    async def has_space(write: Awaitable[object]) -> bool:
        reserve._spare = 0
        try:
            await write
        except LedgerUnavailable:
            return False
        return True

    results = []
    for spare in range(20):
        monkeypatch.setattr(reserve, "_provide_spare", lambda *_, spare=spare: spare)
        begin = ledger.begin(intent(f"k{spare}", input="x" * 2000), NOW, None)
        results.append((await has_space(ledger.check()), await has_space(begin)))
    assert (True, False) not in results
    assert results[0] == (False, False)
    assert results[-1] == (True, True)


async def test_failed_statement_rolls_back_its_whole_commit(
    ledger: Ledger, intent: MakeIntent
) -> None:
    attempts = [intent(f"k{number}") for number in range(3)]
    async with occupied(ledger):
        writing = asyncio.gather(
            ledger.begin(attempts[0], NOW, None),
            ledger.engine.write("SELECT no_such_function()", {}),
            *(ledger.begin(intent, NOW, None) for intent in attempts[1:]),
            return_exceptions=True,
        )
    async with asyncio.timeout(40):
        assert all(isinstance(result, LedgerUnavailable) for result in await writing)
    assert await ledger.list(None, Selection(), 10, None) == []
    assert not connection_of(ledger).in_transaction
    for begun_intent in attempts:
        await ledger.begin(begun_intent, NOW, None)


async def test_cancelled_caller_does_not_undo_the_write(ledger: Ledger, intent: MakeIntent) -> None:
    writing = asyncio.create_task(ledger.begin(intent("k"), NOW, None))
    await asyncio.sleep(0)
    writing.cancel()
    await ledger.check()
    assert await status_of(ledger, "k") is DuplicationStatus.IN_PROGRESS


async def test_closed_ledger_raises_unavailable(
    sqlite_url: str, open_at: Open, intent: MakeIntent
) -> None:
    ledger = await open_at(sqlite_url)
    await ledger.close()
    with pytest.raises(LedgerUnavailable):
        await ledger.find("everyone", "k")
    async with asyncio.timeout(40):
        with pytest.raises(LedgerUnavailable):
            await ledger.begin(intent("k"), NOW, None)


# --- the file under the gateway -------------------------------------------------------------------


async def test_moved_ledger_is_unavailable_until_it_is_back(
    ledger: Ledger, path: Path, tmp_path: Path, intent: MakeIntent
) -> None:
    await ledger.begin(intent("before"), NOW, None)
    shutil.move(path, tmp_path / "elsewhere.db")
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match="was moved or deleted; put it back"):
            await ledger.begin(intent("meanwhile"), NOW, None)
        with pytest.raises(LedgerUnavailable, match="was moved or deleted"):
            await ledger.check()
    assert not is_there(path)
    shutil.move(tmp_path / "elsewhere.db", path)
    assert await status_of(ledger, "before") is DuplicationStatus.IN_PROGRESS
    assert await status_of(ledger, "meanwhile") is None
    await ledger.begin(intent("after"), NOW, None)


@pytest.mark.parametrize("ending", ["", "-wal", "-lock"])
async def test_ledger_without_one_of_its_files_is_unavailable(
    ledger: Ledger, path: Path, intent: MakeIntent, ending: str
) -> None:
    """Without its log, confirmed writes would be lost at a kill."""
    mine, lost = intent("k"), path.with_name(path.name + ending)
    await ledger.begin(mine, NOW, None)
    delete(lost)
    with pytest.raises(LedgerUnavailable, match="moved or deleted"):
        await ledger.settle(mine, Created(COPY), LATER, None)
    with pytest.raises(LedgerUnavailable, match="moved or deleted"):
        await ledger.begin(intent("more"), NOW, None)
    assert not is_there(lost)


async def test_ledger_replaced_by_another_file_is_unavailable(
    ledger: Ledger, path: Path, tmp_path: Path, intent: MakeIntent
) -> None:
    shutil.copy(path, tmp_path / "copy.db")
    (tmp_path / "copy.db").replace(path)
    with pytest.raises(LedgerUnavailable, match="was moved or deleted"):
        await ledger.begin(intent("k"), NOW, None)


# --- operators ------------------------------------------------------------------------------------


async def test_operator_cannot_open_a_missing_ledger(
    sqlite_url: str, path: Path, open_at: Open
) -> None:
    with pytest.raises(LedgerUnavailable, match="does not exist; a gateway creates it"):
        await open_at(sqlite_url, as_operator=True)
    assert not is_there(path)
    with connected(path):
        assert is_there(path)
    with pytest.raises(LedgerUnavailable, match="another version"):
        await open_at(sqlite_url, as_operator=True)


async def test_operator_takes_over_nothing_and_needs_no_gateway(
    sqlite_url: str, open_at: Open, intent: MakeIntent
) -> None:
    gateway = await open_at(sqlite_url)
    await gateway.begin(intent("k"), NOW, None)
    operator = await open_at(sqlite_url, as_operator=True)
    await gateway.close()
    assert await status_of(operator, "k") is DuplicationStatus.IN_PROGRESS
    restarted = await open_at(sqlite_url)
    assert await status_of(operator, "k") is DuplicationStatus.UNKNOWN
    await restarted.check()


OPERATING = """
import asyncio, sys
from datetime import UTC, datetime
from campaign_gateway.ledger import open_ledger
from campaign_gateway.model import (
    Campaign, Created, DuplicationStatus, ErrorCode, Evidence, Selection, UserError,
)

async def main():
    ledger = await open_ledger(sys.argv[1], as_operator=True)
    unknown = Selection(statuses=(DuplicationStatus.UNKNOWN,), account="lost")
    absent = UserError(ErrorCode.PROVIDER_UNAVAILABLE, "checked")
    settled = 0
    while page := await ledger.list(None, unknown, 20, None):
        for number, record in enumerate(page):
            now, copy = datetime.now(UTC), Campaign("copy-" + record.intent.id)
            await ledger.postpone(record, now, [copy])
            if number % 2:
                settled += await ledger.settle_as_not_created(record, absent, now)
            else:
                person = Evidence.OPERATOR
                settled += bool(
                    await ledger.settle_from_evidence(record, Created(copy), person, now, None)
                )
    await ledger.close()
    print(settled)

asyncio.run(main())
"""


async def test_operator_writes_from_another_process_while_a_gateway_is_busy(
    ledger: Ledger, sqlite_url: str, path: Path, intent: MakeIntent
) -> None:
    lost = [
        intent(f"lost{number}", account="lost", requested_name=f"{number}") for number in range(300)
    ]
    await asyncio.gather(*(ledger.begin(intent, NOW, None) for intent in lost))
    await asyncio.gather(*(ledger.settle(intent, UNKNOWN, NOW, None) for intent in lost))
    written = 0

    async def copy_until(operator: "subprocess.Popen[str]", caller: int) -> None:
        nonlocal written
        while operator.poll() is None:
            written += 1
            mine = intent(f"k{written}", requested_name=f"{written}")
            await ledger.begin(mine, NOW, None)
            done = await ledger.settle(mine, Created(Campaign(mine.id)), LATER, None)
            assert done.status is DuplicationStatus.CREATED

    with python(OPERATING, sqlite_url) as operator:
        async with asyncio.timeout(60):
            await asyncio.gather(*(copy_until(operator, caller) for caller in range(16)))
        assert operator.stdout is not None
        assert operator.stdout.read() == "300\n"
    assert operator.returncode == 0
    assert written > 16
    with connected(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counted = connection.execute(
            "SELECT evidence, count(*) FROM duplication GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert counted == [("OPERATOR", 300), ("RESPONSE", written)]


def reads_of_a_caller() -> dict[str, tuple[str, Mapping[str, object]]]:
    """The statements of queries, with as many values as one request may have."""
    ids = {f"id{number}": "x" for number in range(100)}
    copies = {f"campaign{number}": "x" for number in range(50)}
    one = {"scope": "mine", "limit": 101}
    whose = {"scope": "mine", "account": "a"}
    later = {**one, "before": 1, "before_id": "x"}
    filtered = {**one, "account": "a", "provider": "braze", "status0": "CREATED"}
    return {
        "by id": (sql.get_all({"scope": "mine", **ids}), {"scope": "mine", **ids}),
        "by copy": (sql.related_by_copy({**whose, **copies}), {**whose, **copies}),
        "by source": (sql.RELATED_BY_SOURCE, {**whose, "campaign_id": "x"}),
        "page": (sql.listing(one), one),
        "next page": (sql.listing(later), later),
        "filtered page": (sql.listing(filtered), filtered),
    }


# Each index, as far as it must be used.
SEARCHED = re.compile(r"\(id=\?\)|\(scope=\?|\(account=\? AND (campaign_id|source_campaign_id)=\?")


@pytest.mark.parametrize("name", reads_of_a_caller())
async def test_read_of_a_caller_does_not_search_the_rows_of_all_callers(
    ledger: Ledger, path: Path, name: str
) -> None:
    """It would block the event loop for 0.2 s with 100,000 rows, and show how many there are."""
    await ledger.check()
    statement, values = reads_of_a_caller()[name]
    with connected(path) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    assert [bool(SEARCHED.search(detail)) for *_, detail in plan] == [True], plan
