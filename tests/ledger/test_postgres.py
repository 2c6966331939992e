"""What is PostgreSQL's own: many gateways, and a database that comes and goes."""

import asyncio
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from campaign_gateway.ledger import Ledger, postgres
from campaign_gateway.ledger.engine import CommitUncertain, LedgerUnavailable
from campaign_gateway.ledger.migrations import migrations
from campaign_gateway.ledger.postgres import PostgresEngine
from campaign_gateway.model import (
    Campaign,
    Created,
    DuplicationStatus,
    ErrorCode,
    Intent,
    Selection,
    Unknown,
    UserError,
)
from support.postgres import PostgresServer, postgres_server

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
COPY = Campaign("c9", name="Copy")
UNKNOWN = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no answer"))

MakeIntent = Callable[..., Intent]
Open = Callable[..., Awaitable[Ledger]]


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """One that these tests may stop and change."""
    with postgres_server() as server:
        yield server


@pytest.fixture
async def ledger(postgres_url: str, open_at: Open) -> Ledger:
    return await open_at(postgres_url)


def engine_of(ledger: Ledger) -> PostgresEngine:
    assert isinstance(ledger.engine, PostgresEngine)
    return ledger.engine


def run(url: str, statement: str, *values: object) -> list[Any]:
    """By somebody else."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def die(ledger: Ledger) -> None:
    """As a process does that is killed, a minute ago."""
    engine = engine_of(ledger)
    assert engine._supervision is not None
    engine._supervision.cancel()


def age(url: str, ledger: Ledger) -> None:
    last_seen = "clock_timestamp() - interval '1 minute'"
    owner = engine_of(ledger)._owner
    run(url, f"UPDATE replica SET last_seen = {last_seen} WHERE id = %s", owner)


async def status_of(ledger: Ledger, key: str) -> DuplicationStatus | None:
    found = await ledger.find("everyone", key)
    return None if found is None else found.status


async def until_unknown(ledger: Ledger, key: str) -> None:
    async with asyncio.timeout(10):
        while await status_of(ledger, key) is not DuplicationStatus.UNKNOWN:
            await asyncio.sleep(0.02)


# --- gateways that die ----------------------------------------------------------------------------


async def test_time_is_the_database_s_whatever_this_machine_s_clock_says(
    postgres_url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    ledger = await open_at(postgres_url, heartbeat_interval=0.1)

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - timedelta(minutes=5)

    assert await ledger.check() == []
    with monkeypatch.context() as patched:
        patched.setattr(postgres, "datetime", Behind)
        (warning,) = await ledger.check()
        assert "this gateway's clock is 300 seconds behind the database's" in warning
        assert abs(ledger.now() - datetime.now(UTC)) < timedelta(seconds=1)
        visitor = await open_at(postgres_url, as_operator=True)
        assert abs(visitor.now() - datetime.now(UTC)) < timedelta(seconds=1)
        await until(lambda: "300 seconds behind" in caplog.text)
        assert caplog.text.count("300 seconds behind") == 1, "once, and not at each heartbeat"
    caplog.set_level("INFO")
    await until(lambda: "agrees with the database's again" in caplog.text)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_dead_gateway_s_calls_become_unknown_and_a_living_one_s_do_not(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    dead, living, third = [
        await open_at(postgres_url, heartbeat_interval=0.05, dead_after=3) for _ in range(3)
    ]
    for each, key in ((dead, "dead"), (living, "living"), (third, "third")):
        await each.begin(intent(key), NOW, None)
    die(dead)
    await asyncio.sleep(0.5)
    assert await status_of(living, "dead") is DuplicationStatus.IN_PROGRESS, "not dead long enough"
    await until_unknown(living, "dead")
    assert await status_of(living, "living") is DuplicationStatus.IN_PROGRESS
    assert await status_of(living, "third") is DuplicationStatus.IN_PROGRESS
    due = await living.claim_due(
        "braze", datetime.now(UTC), 10, datetime.now(UTC) + timedelta(minutes=1)
    )
    assert [each.intent.key for each in due] == ["dead"]
    assert due[0].error is not None
    assert due[0].error.code is ErrorCode.OUTCOME_UNKNOWN


async def test_a_gateway_that_is_closed_is_not_waited_for(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    leaving, staying = await open_at(postgres_url), await open_at(postgres_url)
    await leaving.begin(intent("k"), NOW, None)
    await engine_of(staying)._disown()
    assert await status_of(staying, "k") is DuplicationStatus.IN_PROGRESS
    await leaving.close()
    await engine_of(staying)._disown()
    assert await status_of(staying, "k") is DuplicationStatus.UNKNOWN


async def test_whoever_was_taken_for_dead_settles_all_the_same(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    # Without a heartbeat that would show it alive again.
    paused = await open_at(postgres_url, heartbeat_interval=3600)
    other = await open_at(postgres_url)
    for number in range(20):
        mine = intent(f"k{number}", requested_name=f"{number}")
        await paused.begin(mine, NOW, None)
        age(postgres_url, paused)
        await asyncio.gather(
            engine_of(other)._disown(),
            paused.settle(mine, Created(Campaign(f"c{number}")), LATER, None),
        )
        assert await status_of(other, mine.key) is DuplicationStatus.CREATED
        late = intent(f"late{number}", requested_name=f"late{number}")
        await paused.begin(late, NOW, None)
        await engine_of(other)._disown()
        assert await status_of(other, late.key) is DuplicationStatus.UNKNOWN
        settled = await paused.settle(late, Created(Campaign(f"l{number}")), LATER, None)
        assert settled.status is DuplicationStatus.CREATED
    await engine_of(other)._disown()
    assert await other.claim_due("braze", datetime.now(UTC), 10, datetime.now(UTC)) == []


async def test_a_visitor_takes_nothing_over_and_leaves_no_trace(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    gateway = await open_at(postgres_url)
    await gateway.begin(intent("k"), NOW, None)
    age(postgres_url, gateway)
    visitor = await open_at(postgres_url, as_operator=True)
    assert await status_of(visitor, "k") is DuplicationStatus.IN_PROGRESS
    assert len(run(postgres_url, "SELECT id FROM replica")) == 1
    await visitor.close()
    assert len(run(postgres_url, "SELECT id FROM replica")) == 1


# --- a database that fails ------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [1.0, 30.0])
async def test_nobody_is_taken_for_dead_right_after_an_outage(
    own_server: PostgresServer,
    open_at: Open,
    intent: MakeIntent,
    patience: float,
) -> None:
    """With patience, the heartbeat that waits for the database does not fail."""
    url = own_server.create_database()
    other, watching = [
        await open_at(url, statement_timeout=patience, heartbeat_interval=0.05, dead_after=2.0)
        for _ in range(2)
    ]
    await other.begin(intent("k"), NOW, None)
    # For long enough that it would take over an abandoned call.
    await asyncio.sleep(2.1)
    # It lives, but has not come back yet when the database has.
    die(other)
    own_server.kill()
    await asyncio.sleep(2.5)
    own_server.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await until_unknown(watching, "k")
    await until_unknown(watching, "k")


async def test_calls_outlast_restarts_of_the_database(
    own_server: PostgresServer, open_at: Open, intent: MakeIntent
) -> None:
    ledger = await open_at(own_server.create_database())
    is_over, done = asyncio.Event(), list[str]()

    async def call(caller: int) -> None:
        while not is_over.is_set():
            mine = intent(f"{caller}-{len(done)}", requested_name=f"{caller}-{len(done)}")
            await ledger.begin(mine, NOW, None)
            settled = await ledger.settle(mine, Created(Campaign(mine.id)), LATER, None)
            assert settled.status is DuplicationStatus.CREATED
            done.append(mine.key)

    async with asyncio.TaskGroup() as calls:
        for caller in range(16):
            calls.create_task(call(caller))
        for _ in range(2):
            before = len(done)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.start)
            while len(done) < before + 50:
                await asyncio.sleep(0.05)
        is_over.set()
    records = await ledger.list(None, Selection(), 100_000, None)
    assert sorted(each.intent.key for each in records) == sorted(done)
    assert await ledger.check() == []


@pytest.mark.long
async def test_an_intent_that_a_halted_database_may_still_record_is_never_under_way(
    own_server: PostgresServer, open_at: Open, intent: MakeIntent
) -> None:
    ledger, mine = await open_at(own_server.create_database(), statement_timeout=1), intent("k")
    own_server.pause()
    try:
        # The driver takes ten more seconds to call the statement off.
        async with asyncio.timeout(15):
            with pytest.raises(CommitUncertain, match="did not answer in time"):
                await ledger.begin(mine, NOW, None)
    finally:
        own_server.resume()
    await ledger.mark_never_sent(mine, UserError(ErrorCode.OVERLOADED, "never sent"), LATER)
    await asyncio.sleep(0.5)
    assert await status_of(ledger, "k") is DuplicationStatus.REJECTED


@asynccontextmanager
async def swallowing(url: str, statement: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A way to the database on which the answer to the first such statement is lost."""
    there = urlsplit(url)
    swallowed: list[bytes] = []
    relays: set[asyncio.Task[Any] | None] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.add(asyncio.current_task())
        answers, questions = await asyncio.open_connection(there.hostname, there.port)
        is_doomed = False

        async def ask() -> None:
            nonlocal is_doomed
            while asked := await reader.read(65536):
                is_doomed = is_doomed or (statement in asked and not swallowed)
                questions.write(asked)
            questions.close()

        asking = asyncio.create_task(ask())
        with suppress(OSError):
            while answered := await answers.read(65536):
                if is_doomed:
                    swallowed.append(answered)
                    break
                writer.write(answered)
        asking.cancel()
        for each in (writer, questions):
            each.close()
            with suppress(OSError):
                await each.wait_closed()

    listening = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield there._replace(netloc=f"{there.username}@127.0.0.1:{port}").geturl(), swallowed
        await asyncio.gather(*(each for each in relays if each))


async def test_an_intent_whose_recording_was_not_confirmed_is_recorded_once(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    mine = intent("k")
    async with swallowing(postgres_url, b"INSERT INTO duplication") as (url, swallowed):
        ledger = await open_at(url)
        await ledger.begin(mine, NOW, None)
        assert b"INSERT 0 1" in b"".join(swallowed), "it had been recorded"
        assert len(await ledger.list(None, Selection(), 10, None)) == 1
        recorded = await ledger.find("everyone", "k")
        assert recorded is not None
        assert recorded.intent == mine
        await ledger.close()


async def test_an_outcome_whose_recording_was_not_confirmed_is_recorded_once(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    mine = intent("k")
    async with swallowing(postgres_url, b"UPDATE duplication SET status = $1") as (url, swallowed):
        ledger = await open_at(url)
        await ledger.begin(mine, NOW, None)
        settled = await ledger.settle(mine, Created(COPY, "trace"), LATER, None)
        assert swallowed
        assert (settled.status, settled.campaign) == (DuplicationStatus.CREATED, COPY)
        await ledger.close()


async def test_what_may_have_been_recorded_is_in_doubt_whatever_comes_after(
    ledger: Ledger, intent: MakeIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the word of it is lost in a failover, and what answers then takes no writes."""
    execute, failures = (
        psycopg.AsyncConnection.execute,
        [
            psycopg.OperationalError("connection lost"),
            psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT"),
        ],
    )

    async def execute_and_fail(self: Any, query: bytes, *arguments: Any) -> Any:
        if not query.startswith(b"INSERT INTO duplication") or not failures:
            return await execute(self, query, *arguments)
        if len(failures) == 2:
            await execute(self, query, *arguments)
        raise failures.pop(0)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", execute_and_fail)
    with pytest.raises(CommitUncertain):
        await ledger.begin(intent("k"), NOW, None)
    assert await status_of(ledger, "k") is DuplicationStatus.IN_PROGRESS


# --- locks ----------------------------------------------------------------------------------------


async def test_no_row_stays_locked(ledger: Ledger, postgres_url: str, intent: MakeIntent) -> None:
    async def call(number: int) -> None:
        mine = intent(f"k{number}", requested_name=f"{number}")
        await ledger.begin(mine, NOW, None)
        await ledger.settle(mine, UNKNOWN, NOW, NOW)
        await ledger.claim_due("braze", LATER, 3, LATER)

    await asyncio.gather(*(call(number) for number in range(30)))
    await engine_of(ledger)._disown()
    await ledger.expire(LATER, 10)
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    assert run(postgres_url, f"{idle} AND starts_with(state, 'idle in transaction')") == [(0,)]
    assert len(run(postgres_url, "SELECT id FROM duplication FOR UPDATE NOWAIT")) == 30


async def test_a_row_that_others_hold_stops_no_reader_and_is_waited_for_by_its_owner(
    open_at: Open, postgres_url: str, intent: MakeIntent
) -> None:
    ledger = await open_at(postgres_url, statement_timeout=1)
    held, free = intent("held", requested_name="Held"), intent("free")
    for each in (held, free):
        await ledger.begin(each, NOW, None)
        await ledger.settle(each, UNKNOWN, NOW, NOW)
    with psycopg.connect(postgres_url) as somebody:
        somebody.execute("SELECT id FROM duplication WHERE key = 'held' FOR UPDATE")
        taken = await ledger.claim_due("braze", LATER, 10, LATER + timedelta(minutes=1))
        assert [each.intent.key for each in taken] == ["free"]
        with pytest.raises(CommitUncertain):
            await ledger.settle(held, Created(COPY), LATER, None)
        somebody.rollback()
    settled = await ledger.settle(held, Created(COPY), LATER, None)
    assert settled.status is DuplicationStatus.CREATED


# --- what it is run with --------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["synchronous_commit", "fsync", "full_page_writes"])
async def test_settings_that_weaken_the_promise_are_told(
    own_server: PostgresServer, open_at: Open, setting: str
) -> None:
    ledger = await open_at(own_server.create_database())
    assert await ledger.check() == []
    own_server.set(setting, "off")
    try:
        async with asyncio.timeout(10):
            while not (warnings := await ledger.check()):
                await asyncio.sleep(0.05)
    finally:
        own_server.set(setting, "on")
    (warning,) = warnings
    assert f"{setting} = off" in warning
    assert "second copy" in warning


async def test_a_database_that_takes_no_writes_is_refused(
    own_server: PostgresServer, open_at: Open, intent: MakeIntent
) -> None:
    """As a standby is, or a primary that was made one."""
    url = own_server.create_database()
    ledger = await open_at(url, statement_timeout=1)
    await ledger.begin(intent("k"), NOW, None)
    own_server.set("default_transaction_read_only", "on")
    try:
        async with asyncio.timeout(10):
            while True:
                with suppress(LedgerUnavailable):
                    await ledger.check()
                    await asyncio.sleep(0.05)
                    continue
                break
        with pytest.raises(LedgerUnavailable, match="read-only"):
            await ledger.check()
        with pytest.raises(LedgerUnavailable, match="read-only"):
            await ledger.begin(intent("more"), NOW, None)
        assert await status_of(ledger, "k") is DuplicationStatus.IN_PROGRESS
        with pytest.raises(LedgerUnavailable, match="read-only"):
            await open_at(url)
    finally:
        with psycopg.connect(own_server.url(), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


async def test_gateways_that_start_at_once_bring_the_tables_up_to_date_once(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    ledgers = await asyncio.gather(*(open_at(postgres_url) for _ in range(4)))
    versions = run(postgres_url, "SELECT version FROM ledger_version ORDER BY version")
    assert versions == [(number + 1,) for number in range(len(migrations("postgres")))]
    for number, each in enumerate(ledgers):
        await each.begin(intent(f"k{number}"), NOW, None)


@pytest.mark.parametrize("as_operator", [False, True])
async def test_a_newer_database_is_left_alone(
    postgres_url: str, open_at: Open, *, as_operator: bool
) -> None:
    await (await open_at(postgres_url)).close()
    run(postgres_url, "INSERT INTO ledger_version VALUES (99)")
    with pytest.raises(LedgerUnavailable, match="version of the gateway"):
        await open_at(postgres_url, as_operator=as_operator)


async def test_a_database_that_is_no_ledger_is_not_visited(
    postgres_url: str, open_at: Open
) -> None:
    with pytest.raises(LedgerUnavailable):
        await open_at(postgres_url, as_operator=True, statement_timeout=1)


# --- secrets --------------------------------------------------------------------------------------

SECRET = "hunter2swordfish"


@pytest.fixture
def guarded(own_server: PostgresServer) -> str:
    """Where a user `careful` is asked for a password, and a URL with a wrong one."""
    url = own_server.create_database()
    rules = own_server._data / "pg_hba.conf"
    if "careful" not in rules.read_text():
        run(url, "CREATE ROLE careful LOGIN PASSWORD 'another'")
        rule = "host all careful 127.0.0.1/32 scram-sha-256\n"
        rules.write_text(rule + rules.read_text())
        run(url, "SELECT pg_reload_conf()")
    return url.replace("postgres@", f"careful:{SECRET}@")


LEADS_NOWHERE = {
    "a wrong password": (f":{SECRET}@", f":{SECRET}@", "password authentication failed"),
    "nobody listens": (r"@[^/]*/", "@127.0.0.1:1/", "refused"),
    "no such host": (r"@[^/]*/", "@no-such-host.invalid/", "no-such-host"),
    "a slash in the password": (f"{SECRET}@", f"{SECRET}/x@", ""),
    "an at sign in the password": (SECRET, "hunter2@swordfish", ""),
    "a percent sign in the password": (SECRET, f"{SECRET}%zz", ""),
}


@pytest.mark.parametrize("as_operator", [False, True])
@pytest.mark.parametrize("mistake", LEADS_NOWHERE)
async def test_a_url_that_leads_nowhere_is_refused_without_its_password(
    guarded: str,
    open_at: Open,
    mistake: str,
    caplog: pytest.LogCaptureFixture,
    *,
    as_operator: bool,
) -> None:
    found, put, said = LEADS_NOWHERE[mistake]
    async with asyncio.timeout(10):
        with pytest.raises(LedgerUnavailable, match="PostgreSQL cannot be used") as refused:
            await open_at(re.sub(found, put, guarded), as_operator=as_operator, statement_timeout=1)
    assert said in str(refused.value)
    traced = "".join(traceback.format_exception(refused.value))
    told = f"{refused.value!r} {traced} {caplog.text}"
    assert "hunter2" not in told
    assert "swordfish" not in told


async def test_an_open_ledger_shows_no_password(
    guarded: str, open_at: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = await open_at(guarded.replace(f"careful:{SECRET}@", f"postgres:{SECRET}@"))
    await ledger.check()
    engine = engine_of(ledger)
    assert SECRET not in f"{ledger!r} {engine!r} {engine._pool!r} {caplog.text}"
