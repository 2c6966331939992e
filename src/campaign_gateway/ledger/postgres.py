"""The ledger in PostgreSQL, for any number of gateways."""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, repeat
from typing import Any, ClassVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from campaign_gateway.ledger import rows, sql
from campaign_gateway.ledger.connections import Connections
from campaign_gateway.ledger.engine import CommitUncertain, LedgerUnavailable
from campaign_gateway.ledger.postgres_tables import migrate, require_version
from campaign_gateway.model import Timing
from campaign_gateway.observe import metrics
from campaign_gateway.observe.events import taken_over

log = logging.getLogger(__name__)

Row = dict[str, Any]
Rows = list[Row]

SKIP_LOCKED = "FOR UPDATE OF duplication SKIP LOCKED"

# It returns the packages of the other gateways that have different ones.
HEARTBEAT = """
INSERT INTO replica (id, last_seen, packages) VALUES (:owner, clock_timestamp(), :packages)
ON CONFLICT (id) DO UPDATE SET last_seen = excluded.last_seen, packages = excluded.packages
RETURNING (
    SELECT array_agg(other.packages ORDER BY other.packages) FROM replica AS other
    WHERE other.id <> :owner AND other.packages <> :packages
    AND other.last_seen > clock_timestamp() - make_interval(secs => :dead_after)
) AS different
"""
CLOCK = "SELECT clock_timestamp() AS now"
# A day keeps the table small, and is far longer than any call.
DELETE_STALE = "DELETE FROM replica WHERE last_seen < clock_timestamp() - interval '1 day'"
DELETE_REPLICA = "DELETE FROM replica WHERE id = :owner"
# The statement may be repeated after an outage of the database, and then all heartbeats are old.
OWNER_IS_DEAD = """
clock_timestamp() < :valid_until AND NOT EXISTS (
    SELECT 1 FROM replica
    WHERE replica.id = duplication.owner
    AND replica.last_seen > clock_timestamp() - make_interval(secs => :dead_after)
)
"""

COUNT_OTHERS = """
SELECT count(*) AS number FROM replica
WHERE id <> :owner AND last_seen > clock_timestamp() - make_interval(secs => :dead_after)
"""

# If the query for the database's clock takes longer, in seconds, its result is too inexact.
CLOCK_QUERY_SECONDS = 1.0

# A gateway's own clock may differ from the database's by so much without a warning.
CLOCK_TOLERANCE = timedelta(seconds=2)

# How long the gateway waits for the database when it stops, in seconds.
CLOSE_SECONDS = 2.0

SAME_PACKAGES = "the gateways at this database have the same connector packages again"

UNREADABLE = "cannot be read; percent-encode special characters of its password, such as @ as %40"

SETTINGS = """
SELECT
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit
"""


class PostgresEngine:
    """Runs the statements with psycopg 3. A statement may be repeated after a lost connection.

    The isolation READ COMMITTED is enough, because the unique index on scope and key decides which
    attempt is sent.
    """

    kind: ClassVar = "postgresql"

    def __init__(self, pool: Connections, owner: str, timing: Timing, packages: str) -> None:
        self._pool = pool
        self._owner = owner
        self._timing = timing
        self._packages = packages
        self._different_packages: Sequence[str] = ()
        self._supervision: asyncio.Task[None] | None = None
        # The time of the database's clock, and the seconds since this machine's boot at that time.
        self._clock = (datetime.now(UTC), _since_boot())

    @classmethod
    async def open(
        cls,
        url: str,
        owner: str,
        timing: Timing,
        packages: str = "",
        *,
        as_operator: bool = False,
    ) -> "PostgresEngine":
        """Open the database. Raises `LedgerUnavailable`.

        `packages` are what this gateway must have in common with the others. With `as_operator`,
        there is no heartbeat, because an operator sends no attempts.
        """
        if not is_readable(url):
            raise LedgerUnavailable(f"PostgreSQL cannot be used: its URL {UNREADABLE}")
        try:
            await (require_version(url) if as_operator else migrate(url))
        except psycopg.Error as error:
            raise LedgerUnavailable(f"PostgreSQL cannot be used: {first_line(error)}") from None
        engine = cls(Connections(url), owner, timing, packages)
        try:
            await engine._read_clock(is_first=True)
            if not as_operator:
                await engine._beat()
                engine._supervision = asyncio.create_task(engine._supervise())
        except LedgerUnavailable:
            await engine._pool.close()
            raise
        return engine

    async def close(self) -> None:
        if self._supervision is not None:
            self._supervision.cancel()
            # Without its replica row, other gateways take over its attempts without a delay.
            deletion = asyncio.create_task(self._delete_replica())
            # The database may be unavailable, and the gateway has to stop anyway.
            await asyncio.wait([self._supervision, deletion], timeout=CLOSE_SECONDS)
            self._supervision = None
        await self._pool.close()

    async def _delete_replica(self) -> None:
        with suppress(LedgerUnavailable):
            await self._run(DELETE_REPLICA, {"owner": self._owner})

    async def _supervise(self) -> None:
        """Send the heartbeat of this gateway, and take over the attempts of dead gateways."""
        loop = asyncio.get_running_loop()
        watching_since = last_beat_at = loop.time()
        previous_warning = self._clock_warning()
        had_different_packages = bool(self._different_packages)
        is_failing = False
        while True:
            await asyncio.sleep(self._timing.heartbeat_interval)
            try:
                await self._beat()
                await self._read_clock()
                clock_warning = self._clock_warning()
                if clock_warning and not previous_warning:
                    log.warning("%s", clock_warning)
                elif previous_warning and not clock_warning:
                    log.info("this gateway's clock agrees with the database's again")
                previous_warning = clock_warning
                if bool(self._different_packages) is not had_different_packages:
                    had_different_packages = not had_different_packages
                    log.warning("%s", self._packages_warning() or SAME_PACKAGES)
                is_failing = False
                # Right after an outage of the database, the heartbeats of all gateways are old.
                if loop.time() - last_beat_at > self._timing.dead_after / 2:
                    watching_since = loop.time()
                last_beat_at = loop.time()
                if last_beat_at - watching_since > self._timing.dead_after:
                    await self._take_over_abandoned()
            except LedgerUnavailable as failure:
                if not is_failing:
                    log.error("this gateway cannot write its heartbeat: %s", failure)
                is_failing = True
            except Exception:
                # If this task ended, other gateways would take over the attempts of this gateway.
                log.exception("a bug in the gateway")

    async def _beat(self) -> None:
        values = {
            "owner": self._owner,
            "packages": self._packages,
            "dead_after": self._timing.dead_after,
        }
        (row,) = await self._run(HEARTBEAT, values)
        self._different_packages = row["different"] or ()

    def _packages_warning(self) -> str | None:
        if not self._different_packages:
            return None
        others = ", ".join(
            f"{number} with {packages or 'none'}"
            for packages, number in Counter(self._different_packages).items()
        )
        return (
            f"other gateways at this database have different connector packages: {others}; this "
            f"one has {self._packages or 'none'}. Install the same for all of them"
        )

    def now(self) -> datetime:
        """Return the last time of the database's clock plus the time that has passed since.

        The clock of this machine may be wrong or may jump.
        """
        database_time, read_at = self._clock
        return database_time + timedelta(seconds=_since_boot() - read_at)

    async def _read_clock(self, *, is_first: bool = False) -> None:
        # In a query of its own, because the COMMIT of the heartbeat may take long.
        began = _since_boot()
        (row,) = await self._run(CLOCK, {})
        took = _since_boot() - began
        if is_first or took < CLOCK_QUERY_SECONDS:
            self._clock = (row["now"].astimezone(UTC), began + took / 2)

    def _clock_warning(self) -> str | None:
        offset = datetime.now(UTC) - self.now()
        if abs(offset) < CLOCK_TOLERANCE:
            return None
        direction = "ahead of" if offset > timedelta(0) else "behind"
        return (
            f"this gateway's clock is {abs(offset).total_seconds():.0f} seconds {direction} the "
            "database's; correct it. The gateway uses the database's clock"
        )

    async def _take_over_abandoned(self) -> None:
        statement = sql.TAKE_OVER_ABANDONED.replace("{owner_is_dead}", OWNER_IS_DEAD)
        now, dead_after = self.now(), self._timing.dead_after
        values = rows.abandoned_params(self._owner, now)
        values |= {
            "dead_after": dead_after,
            "valid_until": now + timedelta(seconds=dead_after / 2),
        }
        taken_over(map(rows.parse_row, await self._run(statement, values)), now)
        await self._run(DELETE_STALE, {})

    async def read(self, statement: str, values: Mapping[str, object]) -> Rows:
        try:
            return await self._run(statement, values)
        except LedgerUnavailable:
            metrics.count_ledger_failure("read")
            raise

    async def write(
        self, statement: str, values: Mapping[str, object], *, is_intent: bool = False
    ) -> Rows:
        (returned,) = await self.write_all([(statement, values)])
        return returned

    def free_bytes(self) -> None:
        # The disk is the database server's.
        return None

    async def count_others(self) -> int:
        values = {"owner": self._owner, "dead_after": self._timing.dead_after}
        (row,) = await self._run(COUNT_OTHERS, values)
        return int(row["number"])

    async def check(self) -> Sequence[str]:
        await self._beat()
        await self._read_clock()
        (settings,) = await self._run(SETTINGS, {})
        warnings = [self._packages_warning(), self._clock_warning()]
        weak = [
            f"PostgreSQL runs with {name} = off: if its machine fails, records can be lost, and "
            "then a retry can make a second copy"
            for name, value in settings.items()
            if value == "off"
        ]
        return [*weak, *filter(None, warnings)]

    async def write_all(self, steps: Sequence[tuple[str, Mapping[str, object]]]) -> Sequence[Rows]:
        began_at = time.perf_counter()
        try:
            returned = await self._run_all(steps)
        except LedgerUnavailable:
            metrics.count_ledger_failure("write")
            raise
        metrics.observe_commit(time.perf_counter() - began_at, 1)
        return returned

    async def _run(self, statement: str, values: Mapping[str, object]) -> Rows:
        (returned,) = await self._run_all([(statement, values)])
        return returned

    async def _run_all(self, steps: Sequence[tuple[str, Mapping[str, object]]]) -> Sequence[Rows]:
        """Run the statements in one transaction. Retry after lost connections and restarts."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._timing.statement_timeout
        failure: Exception | None = None
        for pause in chain([0.05, 0.2, 0.5], repeat(1.0)):
            try:
                async with asyncio.timeout_at(give_up_at), self._pool.connection() as connection:
                    if len(steps) == 1:
                        return [await _execute(connection, *steps[0])]
                    async with connection.transaction():
                        return [await _execute(connection, *step) for step in steps]
            except psycopg.errors.ProgramLimitExceeded as error:
                # A subclass of OperationalError, as lost connections, but a retry fails too.
                raise LedgerUnavailable(first_line(error)) from error
            except (
                psycopg.OperationalError,
                psycopg.InterfaceError,
                # At the same moment another gateway has given the campaign an owner. The repeated
                # statement finds that owner.
                psycopg.errors.UniqueViolation,
                TimeoutError,
            ) as error:
                failure = error
            except psycopg.Error as error:
                # The error is about this try only. An earlier one may have been committed.
                error_type = LedgerUnavailable if failure is None else CommitUncertain
                raise error_type(first_line(error)) from error
            if loop.time() + pause > give_up_at:
                raise CommitUncertain(first_line(failure)) from failure
            await asyncio.sleep(pause)
        raise AssertionError("the pauses never end")


async def _execute(
    connection: psycopg.AsyncConnection[Row], statement: str, values: Mapping[str, object]
) -> Rows:
    cursor = await connection.execute(_for_psycopg(statement), values)
    # `cursor.description` would describe thirty columns, for a tenth of the statement's CPU.
    has_rows = cursor.pgresult is not None and cursor.pgresult.nfields > 0
    return await cursor.fetchall() if has_rows else []


def _since_boot() -> float:
    """Return seconds of a clock that is never set and counts while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def is_readable(url: str) -> bool:
    """Return whether libpq parses the URL, with no part of the password in the host.

    Messages of libpq contain the host.
    """
    try:
        return "@" not in str(conninfo_to_dict(url).get("host", ""))
    except psycopg.ProgrammingError:
        return False


@lru_cache
def _for_psycopg(statement: str) -> bytes:
    """Return the statement with its lock and with the placeholders of psycopg."""
    return re.sub(r":(\w+)", r"%(\1)s", statement.replace("{lock}", SKIP_LOCKED)).encode()


def first_line(error: Exception) -> str:
    """Return the message without the statement, which PostgreSQL appends."""
    if isinstance(error, TimeoutError):
        return "the database did not respond in time"
    return (str(error).splitlines() or [type(error).__name__])[0]
