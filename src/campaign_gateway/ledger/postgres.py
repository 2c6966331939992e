"""The ledger in PostgreSQL, for any number of gateways."""

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from campaign_gateway.ledger import rows, sql
from campaign_gateway.ledger.connections import Connections, with_timeouts
from campaign_gateway.ledger.engine import CommitUncertain, LedgerUnavailable
from campaign_gateway.ledger.migrations import migrations
from campaign_gateway.model import Timing

log = logging.getLogger(__name__)

Row = dict[str, Any]
Rows = list[Row]

SKIP_LOCKED = "FOR UPDATE OF duplication SKIP LOCKED"

# What every gateway of a database takes turns by while it brings the tables up to date.
MIGRATION_LOCK = 7210448236

BEAT = (
    "INSERT INTO replica (id, last_seen) VALUES (:owner, clock_timestamp())"
    " ON CONFLICT (id) DO UPDATE SET last_seen = excluded.last_seen RETURNING id"
)
CLOCK = "SELECT clock_timestamp() AS now"
# A day keeps the table small and is far longer than any call.
BURY = "DELETE FROM replica WHERE last_seen < clock_timestamp() - interval '1 day'"
LEAVE = "DELETE FROM replica WHERE id = :owner"
OWNER_IS_DEAD = (
    "NOT EXISTS (SELECT 1 FROM replica WHERE replica.id = duplication.owner"
    " AND replica.last_seen > clock_timestamp() - make_interval(secs => :dead_after))"
)
# A reading of the database's clock that took longer, in seconds, is too inexact to go by.
EXACT_SECONDS = 1.0

# By how much a gateway's own clock may differ from the database's before somebody should see it.
CLOCK_TOLERANCE = timedelta(seconds=2)

# What each step of leaving may take, in seconds.
LEAVE_SECONDS = 2.0

UNREADABLE = "cannot be read; write special characters of its password as %40 and the like"

SETTINGS = (
    "SELECT current_setting('fsync') AS fsync,"
    " current_setting('full_page_writes') AS full_page_writes,"
    " current_setting('synchronous_commit') AS synchronous_commit"
)


class PostgresEngine:
    """Hand-written SQL over psycopg 3. Each statement is a transaction, and may be repeated.

    READ COMMITTED is enough, because the unique index on scope and key decides who sends.
    """

    def __init__(self, pool: Connections, owner: str, timing: Timing) -> None:
        self._pool = pool
        self._owner = owner
        self._timing = timing
        self._supervision: asyncio.Task[None] | None = None
        # What the database's clock said, and when that was by this machine's clock since its boot.
        self._clock = (datetime.now(UTC), _since_boot())

    @classmethod
    async def open(
        cls, url: str, owner: str, timing: Timing, *, as_operator: bool = False
    ) -> "PostgresEngine":
        """Raises `LedgerUnavailable`. A visitor has no calls that others could take over."""
        if not is_readable(url):
            raise LedgerUnavailable(f"PostgreSQL cannot be used: its URL {UNREADABLE}")
        try:
            await (_require_version(url) if as_operator else _migrate(url))
        except psycopg.Error as error:
            raise LedgerUnavailable(f"PostgreSQL cannot be used: {_first_line(error)}") from None
        engine = cls(Connections(url), owner, timing)
        try:
            await engine._read_clock(is_first=True)
            if not as_operator:
                await engine._run(BEAT, {"owner": owner})
                engine._supervision = asyncio.create_task(engine._supervise())
        except LedgerUnavailable:
            await engine._pool.close()
            raise
        return engine

    async def close(self) -> None:
        if self._supervision is not None:
            self._supervision.cancel()
            # Whatever is still IN_PROGRESS has nobody to finish it, and need not wait.
            leaving = asyncio.create_task(self._leave())
            # A database that has gone is no reason to stay.
            await asyncio.wait([self._supervision, leaving], timeout=LEAVE_SECONDS)
            self._supervision = None
        await self._pool.close()

    async def _leave(self) -> None:
        with suppress(LedgerUnavailable):
            await self._run(LEAVE, {"owner": self._owner})

    async def _supervise(self) -> None:
        """Show that this gateway lives, and take over from those that do not."""
        loop = asyncio.get_running_loop()
        watching_since = seen_at = loop.time()
        was_off = self._clock_warning()
        while True:
            await asyncio.sleep(self._timing.heartbeat_interval)
            try:
                await self._run(BEAT, {"owner": self._owner})
                await self._read_clock()
                is_off = self._clock_warning()
                if is_off and not was_off:
                    log.warning("%s", is_off)
                elif was_off and not is_off:
                    log.info("this gateway's clock agrees with the database's again")
                was_off = is_off
                # After an outage of the database everybody looks dead for a while.
                if loop.time() - seen_at > self._timing.dead_after / 2:
                    watching_since = loop.time()
                seen_at = loop.time()
                if seen_at - watching_since > self._timing.dead_after:
                    await self._disown()
            except LedgerUnavailable as failure:
                log.error("this gateway cannot show that it lives: %s", failure)
            except Exception:
                # Without a heartbeat, all that this gateway sends would be taken over.
                log.exception("a fault of the gateway's own")

    def now(self) -> datetime:
        """By the database's clock, as it was last read and has gone on since.

        A wrong clock of this machine, or one that jumps, makes no difference.
        """
        told, at = self._clock
        return told + timedelta(seconds=_since_boot() - at)

    async def _read_clock(self, *, is_first: bool = False) -> None:
        # Not with the heartbeat, whose COMMIT may take long.
        began = _since_boot()
        (told,) = await self._run(CLOCK, {})
        took = _since_boot() - began
        if is_first or took < EXACT_SECONDS:
            self._clock = (told["now"].astimezone(UTC), began + took / 2)

    def _clock_warning(self) -> str | None:
        ahead = datetime.now(UTC) - self.now()
        if abs(ahead) < CLOCK_TOLERANCE:
            return None
        which = "ahead of" if ahead > timedelta(0) else "behind"
        return (
            f"this gateway's clock is {abs(ahead).total_seconds():.0f} seconds {which} the "
            "database's; correct it. The gateway uses the database's clock"
        )

    async def _disown(self) -> None:
        statement = sql.TAKE_OVER_ABANDONED.replace("{owner_is_dead}", OWNER_IS_DEAD)
        values = rows.abandoned_params(self._owner, self.now())
        values |= {"dead_after": self._timing.dead_after}
        for row in await self._run(statement, values):
            log.warning("duplication %s is UNKNOWN: its gateway is gone", row["id"])
        await self._run(BURY, {})

    async def read(self, statement: str, values: Mapping[str, object]) -> Rows:
        return await self._run(statement, values)

    async def write(
        self, statement: str, values: Mapping[str, object], *, is_intent: bool = False
    ) -> Rows:
        return await self._run(statement, values)

    async def check(self) -> Sequence[str]:
        await self._run(BEAT, {"owner": self._owner})
        await self._read_clock()
        (settings,) = await self._run(SETTINGS, {})
        clock = self._clock_warning()
        weak = [
            f"PostgreSQL runs with {name} = off: if its machine fails, records can be lost, and "
            "then a retry can make a second copy"
            for name, value in settings.items()
            if value == "off"
        ]
        return [*weak, clock] if clock else weak

    async def write_all(self, steps: Sequence[tuple[str, Mapping[str, object]]]) -> Sequence[Rows]:
        return await self._run_all(steps)

    async def _run(self, statement: str, values: Mapping[str, object]) -> Rows:
        (done,) = await self._run_all([(statement, values)])
        return done

    async def _run_all(self, steps: Sequence[tuple[str, Mapping[str, object]]]) -> Sequence[Rows]:
        """Run the statements in one transaction, over lost connections and restarts."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._timing.statement_timeout
        failure: Exception | None = None
        for pause in chain([0.05, 0.2, 0.5], repeat(1.0)):
            try:
                async with asyncio.timeout_at(give_up_at), self._pool.connection() as connection:
                    if len(steps) == 1:
                        return [await _executed(connection, *steps[0])]
                    async with connection.transaction():
                        return [await _executed(connection, *step) for step in steps]
            except psycopg.errors.ProgramLimitExceeded as error:
                # Of the same class as a lost connection, and never to be had otherwise.
                raise LedgerUnavailable(_first_line(error)) from error
            except (
                psycopg.OperationalError,
                psycopg.InterfaceError,
                # Another gateway has given the campaign an owner at this very moment. The
                # statement sees that when it is repeated.
                psycopg.errors.UniqueViolation,
                TimeoutError,
            ) as error:
                failure = error
            except psycopg.Error as error:
                # A refusal says nothing of the tries before it.
                kind = LedgerUnavailable if failure is None else CommitUncertain
                raise kind(_first_line(error)) from error
            if loop.time() + pause > give_up_at:
                raise CommitUncertain(_first_line(failure)) from failure
            await asyncio.sleep(pause)
        raise AssertionError("the pauses never end")


async def _executed(
    connection: psycopg.AsyncConnection[Row], statement: str, values: Mapping[str, object]
) -> Rows:
    cursor = await connection.execute(_written(statement), values)
    return await cursor.fetchall() if cursor.description else []


def _since_boot() -> float:
    """Seconds by a clock that nobody sets, which goes on while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def is_readable(url: str) -> bool:
    """Whether it can be shown in messages without its password, as the library would."""
    try:
        return "@" not in str(conninfo_to_dict(url).get("host", ""))
    except psycopg.ProgrammingError:
        return False


async def _require_version(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(with_timeouts(url)) as connection:
        try:
            cursor = await connection.execute("SELECT max(version) FROM ledger_version")
            row = await cursor.fetchone()
        except psycopg.errors.UndefinedTable:
            row = None
        if row is None or row[0] != len(migrations("postgres")):
            raise LedgerUnavailable(
                "the database is not a ledger of this version of the gateway; use the version that "
                "made it, or start this version's gateway once"
            )


async def _migrate(url: str) -> None:
    """Raises `LedgerUnavailable` when a newer version of the gateway has been here."""
    scripts = migrations("postgres")
    async with await psycopg.AsyncConnection.connect(with_timeouts(url)) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS ledger_version (version integer NOT NULL)"
        )
        cursor = await connection.execute("SELECT max(version) FROM ledger_version")
        row = await cursor.fetchone()
        version = row[0] or 0 if row else 0
        if version > len(scripts):
            raise LedgerUnavailable(
                "the database was used by a newer version of the gateway; start that version"
            )
        for number, script in enumerate(scripts[version:], start=version + 1):
            await connection.execute(script.encode())
            await connection.execute("INSERT INTO ledger_version VALUES (%s)", [number])


@lru_cache
def _written(statement: str) -> bytes:
    """As psycopg marks values, and with what keeps others from choosing the same rows."""
    return re.sub(r":(\w+)", r"%(\1)s", statement.replace("{lock}", SKIP_LOCKED)).encode()


def _first_line(error: Exception) -> str:
    """Without the statement, which PostgreSQL shows below the message."""
    if isinstance(error, TimeoutError):
        return "the database did not answer in time"
    return (str(error).splitlines() or [type(error).__name__])[0]
