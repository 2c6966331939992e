"""What only PostgreSQL has: several gateways, and a database that may be unavailable."""

import asyncio
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self
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
from support.ledgers import status_of
from support.postgres import PostgresServer
from support.waiting import until

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
COPY = Campaign("c9", name="Copy")
UNKNOWN = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no response"))

MakeIntent = Callable[..., Intent]
Open = Callable[..., Awaitable[Ledger]]


@pytest.fixture
async def ledger(postgres_url: str, open_at: Open) -> Ledger:
    return await open_at(postgres_url)


def engine_of(ledger: Ledger) -> PostgresEngine:
    assert isinstance(ledger.engine, PostgresEngine)
    return ledger.engine


def run(url: str, statement: str, *values: object) -> list[Any]:
    """Run a statement on another connection."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def die(ledger: Ledger) -> None:
    """Stop the heartbeat, as in a process that is killed."""
    engine = engine_of(ledger)
    assert engine._supervision is not None
    engine._supervision.cancel()


def age(url: str, ledger: Ledger) -> None:
    last_seen = "clock_timestamp() - interval '1 minute'"
    owner = engine_of(ledger)._owner
    run(url, f"UPDATE replica SET last_seen = {last_seen} WHERE id = %s", owner)


async def until_unknown(ledger: Ledger, key: str) -> None:
    async with asyncio.timeout(40):
        while await status_of(ledger, key) is not DuplicationStatus.UNKNOWN:
            await asyncio.sleep(0.02)


# --- gateways that stop ---------------------------------------------------------------------------


async def test_time_is_from_the_database_if_the_machine_s_clock_is_wrong(
    postgres_url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    ledger = await open_at(postgres_url, heartbeat_interval=0.1)

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) - timedelta(minutes=5)

    # A server that tests share may run with fsync = off, which is a warning too.
    before = await ledger.check()
    assert not any("clock" in warning for warning in before)
    with monkeypatch.context() as patched:
        patched.setattr(postgres, "datetime", Behind)
        *others, warning = await ledger.check()
        assert others == before
        assert "this gateway's clock is 300 seconds behind the database's" in warning
        assert abs(ledger.now() - datetime.now(UTC)) < timedelta(seconds=1)
        operator = await open_at(postgres_url, as_operator=True)
        assert abs(operator.now() - datetime.now(UTC)) < timedelta(seconds=1)
        await until(lambda: "300 seconds behind" in caplog.text)
        assert caplog.text.count("300 seconds behind") == 1, "one warning in total"
    caplog.set_level("INFO")
    await until(lambda: "agrees with the database's again" in caplog.text)


async def test_only_attempts_of_a_dead_gateway_become_unknown(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    dead, living, third = [
        await open_at(postgres_url, heartbeat_interval=0.05, dead_after=3) for _ in range(3)
    ]
    for ledger, key in ((dead, "dead"), (living, "living"), (third, "third")):
        await ledger.begin(intent(key), NOW, None)
    die(dead)
    await asyncio.sleep(0.5)
    assert await status_of(living, "dead") is DuplicationStatus.IN_PROGRESS, "not dead long enough"
    await until_unknown(living, "dead")
    assert await status_of(living, "living") is DuplicationStatus.IN_PROGRESS
    assert await status_of(living, "third") is DuplicationStatus.IN_PROGRESS
    due = await living.claim_due(
        "braze", datetime.now(UTC), 10, datetime.now(UTC) + timedelta(minutes=1)
    )
    assert [record.intent.key for record in due] == ["dead"]
    assert due[0].error is not None
    assert due[0].error.code is ErrorCode.OUTCOME_UNKNOWN


async def test_attempts_of_a_closed_gateway_are_taken_over_without_delay(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    leaving, staying = await open_at(postgres_url), await open_at(postgres_url)
    await leaving.begin(intent("k"), NOW, None)
    await engine_of(staying)._take_over_abandoned()
    assert await status_of(staying, "k") is DuplicationStatus.IN_PROGRESS
    await leaving.close()
    await engine_of(staying)._take_over_abandoned()
    assert await status_of(staying, "k") is DuplicationStatus.UNKNOWN


async def test_gateway_that_was_taken_for_dead_still_settles(
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
            engine_of(other)._take_over_abandoned(),
            paused.settle(mine, Created(Campaign(f"c{number}")), LATER, None),
        )
        assert await status_of(other, mine.key) is DuplicationStatus.CREATED
        late = intent(f"late{number}", requested_name=f"late{number}")
        await paused.begin(late, NOW, None)
        await engine_of(other)._take_over_abandoned()
        assert await status_of(other, late.key) is DuplicationStatus.UNKNOWN
        settled = await paused.settle(late, Created(Campaign(f"l{number}")), LATER, None)
        assert settled.status is DuplicationStatus.CREATED
    await engine_of(other)._take_over_abandoned()
    assert await other.claim_due("braze", datetime.now(UTC), 10, datetime.now(UTC)) == []


async def test_operator_takes_nothing_over_and_has_no_replica_row(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    gateway = await open_at(postgres_url)
    await gateway.begin(intent("k"), NOW, None)
    age(postgres_url, gateway)
    operator = await open_at(postgres_url, as_operator=True)
    assert await status_of(operator, "k") is DuplicationStatus.IN_PROGRESS
    assert len(run(postgres_url, "SELECT id FROM replica")) == 1
    await operator.close()
    assert len(run(postgres_url, "SELECT id FROM replica")) == 1


# --- a database that fails ------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [1.0, 30.0])
async def test_no_gateway_counts_as_dead_right_after_an_outage(
    own_postgres: PostgresServer,
    open_at: Open,
    intent: MakeIntent,
    patience: float,
) -> None:
    """With the longer patience, the heartbeat is retried until the database is back."""
    # On a busy machine, the test may learn a second late that the database is back.
    url, dead_after = own_postgres.create_database(), 4.0
    other, watching = [
        await open_at(
            url, statement_timeout=patience, heartbeat_interval=0.05, dead_after=dead_after
        )
        for _ in range(2)
    ]
    await other.begin(intent("k"), NOW, None)
    # Long enough that the watching gateway could take over an abandoned attempt.
    await asyncio.sleep(dead_after + 0.1)
    # It runs, but its next heartbeat is late.
    die(other)
    own_postgres.kill()
    await asyncio.sleep(dead_after + 0.2)
    own_postgres.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(dead_after / 2):
            await until_unknown(watching, "k")
    await until_unknown(watching, "k")


async def test_take_over_repeated_after_an_outage_takes_nothing(
    own_postgres: PostgresServer, open_at: Open, intent: MakeIntent
) -> None:
    url, dead_after = own_postgres.create_database(), 1.0
    other, watching = [
        await open_at(url, statement_timeout=60, dead_after=dead_after) for _ in range(2)
    ]
    await other.begin(intent("k"), NOW, None)
    die(other)
    die(watching)
    age(url, other)
    own_postgres.kill()
    take_over = asyncio.create_task(engine_of(watching)._take_over_abandoned())
    await asyncio.sleep(dead_after / 2)
    own_postgres.start()
    await take_over
    assert (await status_of(watching, "k")) is DuplicationStatus.IN_PROGRESS
    await engine_of(watching)._take_over_abandoned()
    assert (await status_of(watching, "k")) is DuplicationStatus.UNKNOWN


async def test_calls_survive_restarts_of_the_database(
    own_postgres: PostgresServer, open_at: Open, intent: MakeIntent
) -> None:
    # On a busy machine, the start after a crash may take longer than the default.
    ledger = await open_at(own_postgres.create_database(), statement_timeout=60)
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
            await asyncio.to_thread(own_postgres.kill)
            await asyncio.to_thread(own_postgres.start)
            while len(done) < before + 50:
                await asyncio.sleep(0.05)
        is_over.set()
    records = await ledger.list(None, Selection(), 100_000, None)
    assert sorted(record.intent.key for record in records) == sorted(done)
    assert await ledger.check() == []


@pytest.mark.long
async def test_intent_that_a_halted_database_may_still_record_never_begins(
    own_postgres: PostgresServer, open_at: Open, intent: MakeIntent
) -> None:
    ledger, mine = await open_at(own_postgres.create_database(), statement_timeout=1), intent("k")
    own_postgres.pause()
    try:
        # The driver takes ten more seconds to cancel the statement.
        async with asyncio.timeout(15):
            with pytest.raises(CommitUncertain, match="did not respond in time"):
                await ledger.begin(mine, NOW, None)
    finally:
        own_postgres.resume()
    await ledger.mark_never_sent(mine, UserError(ErrorCode.OVERLOADED, "never sent"), LATER)
    await asyncio.sleep(0.5)
    assert await status_of(ledger, "k") is DuplicationStatus.REJECTED


@asynccontextmanager
async def swallowing(url: str, statement: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Relay connections to the database, and drop the response to the first such statement."""
    there = urlsplit(url)
    swallowed: list[bytes] = []
    relays: set[asyncio.Task[Any] | None] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.add(asyncio.current_task())
        responses, requests = await asyncio.open_connection(there.hostname, there.port)
        is_doomed = False

        async def forward() -> None:
            nonlocal is_doomed
            while request := await reader.read(65536):
                # The statements are written on several lines.
                is_doomed = is_doomed or (statement in b" ".join(request.split()) and not swallowed)
                requests.write(request)
            requests.close()

        forwarding = asyncio.create_task(forward())
        with suppress(OSError):
            while response := await responses.read(65536):
                if is_doomed:
                    swallowed.append(response)
                    break
                writer.write(response)
        forwarding.cancel()
        for stream in (writer, requests):
            stream.close()
            with suppress(OSError):
                await stream.wait_closed()

    listening = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield there._replace(netloc=f"{there.username}@127.0.0.1:{port}").geturl(), swallowed
        await asyncio.gather(*(relay for relay in relays if relay))


async def test_unconfirmed_intent_is_recorded_once(
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


async def test_unconfirmed_outcome_is_recorded_once(
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


async def test_unconfirmed_intent_stays_uncertain_after_another_error(
    ledger: Ledger, intent: MakeIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The confirmation is lost in a failover, and the next server is read-only."""
    execute, failures = (
        psycopg.AsyncConnection.execute,
        [
            psycopg.OperationalError("connection lost"),
            psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT"),
        ],
    )

    async def execute_and_fail(self: Any, query: bytes, *arguments: Any) -> Any:
        if b"INSERT INTO duplication" not in query or not failures:
            return await execute(self, query, *arguments)
        if len(failures) == 2:
            await execute(self, query, *arguments)
        raise failures.pop(0)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", execute_and_fail)
    with pytest.raises(CommitUncertain):
        await ledger.begin(intent("k"), NOW, None)
    assert await status_of(ledger, "k") is DuplicationStatus.IN_PROGRESS


# --- locks ----------------------------------------------------------------------------------------


async def test_no_row_stays_locked_after_its_statement(
    ledger: Ledger, postgres_url: str, intent: MakeIntent
) -> None:
    async def call(number: int) -> None:
        mine = intent(f"k{number}", requested_name=f"{number}")
        await ledger.begin(mine, NOW, None)
        await ledger.settle(mine, UNKNOWN, NOW, NOW)
        await ledger.claim_due("braze", LATER, 3, LATER)

    await asyncio.gather(*(call(number) for number in range(30)))
    await engine_of(ledger)._take_over_abandoned()
    await ledger.expire(LATER, 10)
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    assert run(postgres_url, f"{idle} AND starts_with(state, 'idle in transaction')") == [(0,)]
    assert len(run(postgres_url, "SELECT id FROM duplication FOR UPDATE NOWAIT")) == 30


async def test_locked_row_is_skipped_by_claims_and_awaited_by_settle(
    open_at: Open, postgres_url: str, intent: MakeIntent
) -> None:
    ledger = await open_at(postgres_url, statement_timeout=1)
    held, free = intent("held", requested_name="Held"), intent("free")
    for begun_intent in (held, free):
        await ledger.begin(begun_intent, NOW, None)
        await ledger.settle(begun_intent, UNKNOWN, NOW, NOW)
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT id FROM duplication WHERE key = 'held' FOR UPDATE")
        taken = await ledger.claim_due("braze", LATER, 10, LATER + timedelta(minutes=1))
        assert [record.intent.key for record in taken] == ["free"]
        with pytest.raises(CommitUncertain):
            await ledger.settle(held, Created(COPY), LATER, None)
        other.rollback()
    settled = await ledger.settle(held, Created(COPY), LATER, None)
    assert settled.status is DuplicationStatus.CREATED


# --- settings and schema --------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["synchronous_commit", "fsync", "full_page_writes"])
async def test_settings_that_weaken_the_promise_cause_a_warning(
    own_postgres: PostgresServer, open_at: Open, setting: str
) -> None:
    ledger = await open_at(own_postgres.create_database())
    assert await ledger.check() == []
    own_postgres.set(setting, "off")
    try:
        async with asyncio.timeout(40):
            while not (warnings := await ledger.check()):
                await asyncio.sleep(0.05)
    finally:
        own_postgres.set(setting, "on")
    (warning,) = warnings
    assert f"{setting} = off" in warning
    assert "second copy" in warning


async def test_read_only_database_is_unavailable(
    own_postgres: PostgresServer, open_at: Open, intent: MakeIntent
) -> None:
    """A standby is read-only, and so is a primary that became a standby."""
    url = own_postgres.create_database()
    ledger = await open_at(url, statement_timeout=1)
    await ledger.begin(intent("k"), NOW, None)
    own_postgres.set("default_transaction_read_only", "on")
    try:
        async with asyncio.timeout(40):
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
        with psycopg.connect(own_postgres.url(), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


async def test_gateways_that_start_together_migrate_once(
    postgres_url: str, open_at: Open, intent: MakeIntent
) -> None:
    ledgers = await asyncio.gather(*(open_at(postgres_url) for _ in range(4)))
    versions = run(postgres_url, "SELECT version FROM ledger_version ORDER BY version")
    assert versions == [(number + 1,) for number in range(len(migrations("postgres")))]
    for number, ledger in enumerate(ledgers):
        await ledger.begin(intent(f"k{number}"), NOW, None)


@pytest.mark.parametrize("as_operator", [False, True])
async def test_newer_database_is_refused(
    postgres_url: str, open_at: Open, *, as_operator: bool
) -> None:
    await (await open_at(postgres_url)).close()
    run(postgres_url, "INSERT INTO ledger_version VALUES (99)")
    with pytest.raises(LedgerUnavailable, match="version of the gateway"):
        await open_at(postgres_url, as_operator=as_operator)


async def test_operator_cannot_open_a_database_without_a_ledger(
    postgres_url: str, open_at: Open
) -> None:
    with pytest.raises(LedgerUnavailable):
        await open_at(postgres_url, as_operator=True, statement_timeout=1)


# --- secrets --------------------------------------------------------------------------------------

SECRET = "hunter2swordfish"


@pytest.fixture
def guarded(own_postgres: PostgresServer) -> str:
    """Return a URL with a wrong password, for a user who needs one."""
    url = own_postgres.create_database()
    rules = own_postgres._data / "pg_hba.conf"
    if "careful" not in rules.read_text():
        run(url, "CREATE ROLE careful LOGIN PASSWORD 'another'")
        rule = "host all careful 127.0.0.1/32 scram-sha-256\n"
        rules.write_text(rule + rules.read_text())
        run(url, "SELECT pg_reload_conf()")
    return url.replace("postgres@", f"careful:{SECRET}@")


UNUSABLE_URLS = {
    "a wrong password": (f":{SECRET}@", f":{SECRET}@", "password authentication failed"),
    "no server at the port": (r"@[^/]*/", "@127.0.0.1:1/", "refused"),
    "no such host": (r"@[^/]*/", "@no-such-host.invalid/", "no-such-host"),
    "a slash in the password": (f"{SECRET}@", f"{SECRET}/x@", ""),
    "an at sign in the password": (SECRET, "hunter2@swordfish", ""),
    "a percent sign in the password": (SECRET, f"{SECRET}%zz", ""),
}


@pytest.mark.parametrize("as_operator", [False, True])
@pytest.mark.parametrize("mistake", UNUSABLE_URLS)
async def test_error_for_an_unusable_url_does_not_contain_its_password(
    guarded: str,
    open_at: Open,
    mistake: str,
    caplog: pytest.LogCaptureFixture,
    *,
    as_operator: bool,
) -> None:
    pattern, replacement, message = UNUSABLE_URLS[mistake]
    async with asyncio.timeout(40):
        with pytest.raises(LedgerUnavailable, match="PostgreSQL cannot be used") as refused:
            await open_at(
                re.sub(pattern, replacement, guarded), as_operator=as_operator, statement_timeout=1
            )
    assert message in str(refused.value)
    traced = "".join(traceback.format_exception(refused.value))
    output = f"{refused.value!r} {traced} {caplog.text}"
    assert "hunter2" not in output
    assert "swordfish" not in output


async def test_repr_and_log_do_not_contain_the_password(
    guarded: str, open_at: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = await open_at(guarded.replace(f"careful:{SECRET}@", f"postgres:{SECRET}@"))
    await ledger.check()
    engine = engine_of(ledger)
    assert SECRET not in f"{ledger!r} {engine!r} {engine._pool!r} {caplog.text}"
