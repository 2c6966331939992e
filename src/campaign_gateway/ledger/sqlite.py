"""The ledger in one SQLite file, for one gateway process."""

import asyncio
import fcntl
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from campaign_gateway.ledger.contract import (
    Duplication,
    Intent,
    LedgerUnavailable,
    Selection,
    status_of,
)
from campaign_gateway.outcomes import (
    Accepted,
    Campaign,
    Created,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Outcome,
    UserError,
)

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Writes that share one COMMIT, and so one fsync.
BATCH_LIMIT = 256

CAMPAIGN: TypeAdapter[Campaign] = TypeAdapter(Campaign)
USER_ERROR: TypeAdapter[UserError] = TypeAdapter(UserError)

ORPHANED = UserError(
    ErrorCode.OUTCOME_UNKNOWN,
    "The gateway stopped before the provider answered, so the copy may or may not exist. Look at "
    "the duplication before asking for another copy.",
)


class SqliteLedger:
    """Standard `sqlite3` in WAL mode with synchronous=FULL, written by one thread.

    Raises `LedgerUnavailable` at the start when the file cannot be used: another process holds it,
    it cannot be written, or a newer version of the gateway has written it.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir() or not path.parent.is_dir():
            raise LedgerUnavailable(
                f"the ledger {path} cannot be used: give a file in a folder that exists"
            )
        location = path.resolve().as_uri()
        try:
            with ExitStack() as opened:
                opened.enter_context(_lock(path))
                self._writer = opened.enter_context(_connection(f"{location}?mode=rwc"))
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = FULL")
                _migrate(self._writer, path)
                _disown(self._writer)
                self._reader = opened.enter_context(_connection(f"{location}?mode=ro"))
                self._opened = opened.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailable(f"the ledger {path} cannot be used: {error}") from error
        self._jobs: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._opened.close()

    # --- reads ------------------------------------------------------------------------------------
    # They run on the event loop: an indexed read of a local file costs less than handing it over.

    async def find(self, scope: str, key: str) -> Duplication | None:
        return self._one("WHERE scope = ? AND key = ?", scope, key)

    async def get(self, scope: str, duplication_id: str) -> Duplication | None:
        return self._one("WHERE scope = ? AND id = ?", scope, duplication_id)

    async def list(
        self, scope: str, selection: Selection, limit: int, before_id: str | None
    ) -> Sequence[Duplication]:
        wanted: dict[str, object | None] = {
            "scope = ?": scope,
            "id < ?": before_id,
            "status = ?": selection.status,
            "provider = ?": selection.provider,
            "account = ?": selection.account,
            "requested_at >= ?": _micros(selection.since),
            "requested_at < ?": _micros(selection.until),
        }
        wanted = {clause: value for clause, value in wanted.items() if value is not None}
        where = f"WHERE {' AND '.join(wanted)} ORDER BY id DESC LIMIT ?"
        return self._all(where, *wanted.values(), limit)

    async def due(self, now: datetime, limit: int) -> Sequence[Duplication]:
        return self._all(
            "WHERE next_check_at <= ? ORDER BY next_check_at LIMIT ?", _micros(now), limit
        )

    async def rivals(self, duplication: Duplication) -> Sequence[Duplication]:
        intent = duplication.intent
        return self._all(
            "WHERE account = ? AND requested_name IS ?"
            " AND status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED') ORDER BY id",
            intent.account,
            intent.requested_name,
        )

    async def claimed(self, account: str, campaign_ids: Iterable[str]) -> frozenset[str]:
        ids = list(campaign_ids)
        marks = ", ".join("?" for _ in ids)
        rows = self._read(
            f"SELECT campaign_id FROM duplication WHERE account = ? AND campaign_id IN ({marks})",
            account,
            *ids,
        )
        return frozenset(row["campaign_id"] for row in rows)

    async def near(self, scope: str, account: str, campaign_id: str) -> Duplication | None:
        return self._one(
            "WHERE scope = ? AND account = ? AND campaign_id = ?", scope, account, campaign_id
        ) or self._one(
            "WHERE scope = ? AND account = ? AND source_campaign_id = ? LIMIT 1",
            scope,
            account,
            campaign_id,
        )

    def _one(self, where: str, *values: object) -> Duplication | None:
        found = self._all(where, *values)
        return found[0] if found else None

    def _all(self, where: str, *values: object) -> Sequence[Duplication]:
        return [
            _duplication(row) for row in self._read(f"SELECT * FROM duplication {where}", *values)
        ]

    def _read(self, statement: str, *values: object) -> Sequence[sqlite3.Row]:
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerUnavailable(str(error)) from error

    # --- writes -----------------------------------------------------------------------------------

    async def begin(self, intent: Intent, now: datetime) -> Duplication:
        def write(connection: sqlite3.Connection) -> Duplication:
            connection.execute(
                "INSERT INTO duplication (id, nonce, scope, key, fingerprint, provider, account,"
                " source_campaign_id, requested_name, input, status, requested_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'IN_PROGRESS', ?)"
                " ON CONFLICT (scope, key) DO NOTHING",
                (
                    intent.id,
                    intent.nonce,
                    intent.scope,
                    intent.key,
                    intent.fingerprint,
                    intent.provider,
                    intent.account,
                    intent.source_campaign_id,
                    intent.requested_name,
                    intent.input,
                    _micros(now),
                ),
            )
            return _duplication(
                connection.execute(
                    "SELECT * FROM duplication WHERE scope = ? AND key = ?",
                    (intent.scope, intent.key),
                ).fetchone()
            )

        return await self._write(write)

    async def settle(
        self, intent: Intent, outcome: Outcome, now: datetime, next_check_at: datetime | None
    ) -> Duplication:
        campaign = outcome.campaign if isinstance(outcome, Created) else None
        error = None if isinstance(outcome, Created | Accepted) else outcome.error
        status = status_of(outcome)

        def write(connection: sqlite3.Connection) -> Duplication:
            connection.execute(
                "UPDATE duplication SET status = ?, campaign_id = ?, campaign = ?, error = ?,"
                " evidence = ?, provider_trace_id = ?, settled_at = ?, next_check_at = ?"
                " WHERE id = ? AND nonce = ? AND status IN ('IN_PROGRESS', 'UNKNOWN')",
                (
                    status,
                    campaign and campaign.id,
                    campaign and CAMPAIGN.dump_json(campaign).decode(),
                    error and USER_ERROR.dump_json(error).decode(),
                    None if status is DuplicationStatus.UNKNOWN else Evidence.ANSWER,
                    outcome.trace_id,
                    _micros(now) if _is_final(status) else None,
                    _micros(next_check_at),
                    intent.id,
                    intent.nonce,
                ),
            )
            return _duplication(
                connection.execute(
                    "SELECT * FROM duplication WHERE id = ?", (intent.id,)
                ).fetchone()
            )

        return await self._write(write)

    async def settle_by_reading(
        self, duplication: Duplication, campaign: Campaign, evidence: Evidence, now: datetime
    ) -> bool:
        def write(connection: sqlite3.Connection) -> bool:
            written = connection.execute(
                "UPDATE duplication SET status = 'CREATED', campaign_id = ?, campaign = ?,"
                " error = NULL, evidence = ?, settled_at = ?, next_check_at = NULL"
                " WHERE id = ? AND status IN ('ACCEPTED', 'UNKNOWN') AND NOT EXISTS"
                " (SELECT 1 FROM duplication WHERE account = ? AND campaign_id = ?)",
                (
                    campaign.id,
                    CAMPAIGN.dump_json(campaign).decode(),
                    evidence,
                    _micros(now),
                    duplication.intent.id,
                    duplication.intent.account,
                    campaign.id,
                ),
            )
            return written.rowcount == 1

        return await self._write(write)

    async def postpone(self, duplication: Duplication, next_check_at: datetime) -> None:
        values = (_micros(next_check_at), duplication.intent.id)
        await self._write(
            lambda connection: connection.execute(
                "UPDATE duplication SET checks = checks + 1, next_check_at = ?"
                " WHERE id = ? AND status IN ('ACCEPTED', 'UNKNOWN')",
                values,
            )
        )

    async def check(self) -> None:
        await self._write(lambda connection: connection.execute("SELECT 1"))

    async def _write(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._jobs.put(_Write(job, future, loop))
        return await future

    # --- the writer thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch = [first]
            while len(batch) < BATCH_LIMIT:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._jobs.put(None)
                    break
                batch.append(following)
            self._commit(batch)

    def _commit(self, batch: Sequence["_Write"]) -> None:
        """One transaction for all; nobody hears of success before the COMMIT has returned."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            results = [write.job(self._writer) for write in batch]
            self._writer.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - a writer that dies would leave all waiting
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            for write in batch:
                write.tell(LedgerUnavailable(str(error)))
            return
        for write, result in zip(batch, results, strict=True):
            write.tell(result)


@dataclass(frozen=True, slots=True)
class _Write:
    job: Job
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    def tell(self, result: object) -> None:
        self.loop.call_soon_threadsafe(self._tell, result)

    def _tell(self, result: object) -> None:
        if self.future.done():
            return
        if isinstance(result, LedgerUnavailable):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


def _is_final(status: DuplicationStatus) -> bool:
    return status in {DuplicationStatus.CREATED, DuplicationStatus.REJECTED}


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds a file beside the ledger: SQLite's own locks would let two gateways take turns."""
    with path.with_name(path.name + "-lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LedgerUnavailable(
                f"the ledger {path} is in use by another gateway; stop that one, or give this one "
                "a ledger of its own"
            ) from None
        yield


@contextmanager
def _connection(uri: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    folder = resources.files("campaign_gateway.ledger") / "migrations" / "sqlite"
    files = sorted((each for each in folder.iterdir()), key=lambda each: each.name)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(files):
        raise LedgerUnavailable(
            f"the ledger {path} was written by a newer version of the gateway; start that version"
        )
    for number, file in enumerate(files[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{file.read_text('utf-8')}\nPRAGMA user_version = {number};\nCOMMIT;"
        )


def _disown(connection: sqlite3.Connection) -> None:
    """Nobody but the process that began an attempt sends it, and that process is gone."""
    connection.execute(
        "UPDATE duplication SET status = 'UNKNOWN', error = ?, next_check_at = requested_at"
        " WHERE status = 'IN_PROGRESS'",
        (USER_ERROR.dump_json(ORPHANED).decode(),),
    )


def _micros(instant: datetime | None) -> int | None:
    return None if instant is None else (instant - EPOCH) // timedelta(microseconds=1)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else _at(micros)


def _at(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def _duplication(row: sqlite3.Row) -> Duplication:
    return Duplication(
        intent=Intent(
            id=row["id"],
            nonce=row["nonce"],
            scope=row["scope"],
            key=row["key"],
            fingerprint=row["fingerprint"],
            provider=row["provider"],
            account=row["account"],
            source_campaign_id=row["source_campaign_id"],
            requested_name=row["requested_name"],
            input=row["input"],
        ),
        status=DuplicationStatus(row["status"]),
        requested_at=_at(row["requested_at"]),
        campaign=row["campaign"] and CAMPAIGN.validate_json(row["campaign"]),
        error=row["error"] and USER_ERROR.validate_json(row["error"]),
        evidence=row["evidence"] and Evidence(row["evidence"]),
        provider_trace_id=row["provider_trace_id"],
        settled_at=_instant(row["settled_at"]),
        checks=row["checks"],
    )
