"""The ledger in one SQLite file, for one gateway process."""

import fcntl
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from campaign_gateway.ledger import rows, sql
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.migrations import migrations
from campaign_gateway.ledger.room import DiskReserve, descriptor
from campaign_gateway.ledger.writer import Writer, exclusive_lock, sidecar

log = logging.getLogger(__name__)

# The gateway that starts has the file for itself, so all other gateways have stopped.
OWNER_IS_DEAD = "owner <> :owner"

# Pages of 4 KiB in the write-ahead log before they are moved into the file.
CHECKPOINT_PAGES = 250


class SqliteEngine:
    """Standard `sqlite3` in WAL mode with synchronous=FULL, written by one thread.

    Raises `LedgerUnavailable` at the start when the file cannot be used: another process holds it,
    it cannot be written, or a newer version of the gateway has written it. One who is `as_operator`
    opens the file beside the gateway that holds it, to look and to write a person's word.
    """

    def __init__(self, path: Path, owner: str, *, as_operator: bool = False) -> None:
        # A ledger has one lock, however its path is written.
        path = path.resolve()
        if path.is_dir() or not path.parent.is_dir():
            raise LedgerUnavailable(
                f"the ledger {path} cannot be used: give a file in a folder that exists"
            )
        if as_operator and not path.exists():
            raise LedgerUnavailable(f"the ledger {path} does not exist; a gateway makes it")
        location = path.as_uri()
        try:
            with ExitStack() as opened:
                lock = opened.enter_context(sidecar(path, "-lock").open("a"))
                room = None
                if not as_operator:
                    _lock(lock, path)
                    # Earlier versions kept room in a file of its own.
                    sidecar(path, "-ballast").unlink(missing_ok=True)
                    room = DiskReserve(path, opened.enter_context(descriptor(path)))
                connection = opened.enter_context(_connection(f"{location}?mode=rwc"))
                connection.execute("PRAGMA synchronous = FULL")
                if room is None:
                    _require_version(connection, path)
                else:
                    with exclusive_lock(lock):
                        _prepare(connection, path, owner)
                self._reader = opened.enter_context(_connection(f"{location}?mode=ro"))
                self._opened = opened.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailable(f"the ledger {path} cannot be used: {error}") from error
        self.writer = Writer(path, connection, lock, room)

    async def close(self) -> None:
        await self.writer.close()
        self._opened.close()

    async def read(self, statement: str, values: Mapping[str, object]) -> Sequence[sqlite3.Row]:
        # On the event loop: an indexed read of a local file costs less than handing it over.
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerUnavailable(str(error)) from error

    async def write(
        self, statement: str, values: Mapping[str, object], *, is_intent: bool = False
    ) -> Sequence[sqlite3.Row]:
        steps = [(_without_lock(statement), values)]
        (returned,) = await self.writer.write(steps, is_intent=is_intent)
        return returned

    async def write_all(
        self, steps: Sequence[tuple[str, Mapping[str, object]]]
    ) -> Sequence[Sequence[sqlite3.Row]]:
        return await self.writer.write(steps, is_intent=False)

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def check(self) -> Sequence[str]:
        await self.writer.write([("SELECT 1", {})], is_intent=True)
        return []


def _without_lock(statement: str) -> str:
    # One thread of one process chooses rows, so no other gateway can choose the same rows.
    return statement.replace("{lock}", "")


def _lock(held: IO[str], path: Path) -> None:
    """Holds a file beside the ledger: SQLite's own locks would let two gateways take turns."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise LedgerUnavailable(
            f"the ledger {path} is in use by another gateway; stop that one, or give this one "
            "a ledger of its own"
        ) from None


@contextmanager
def _connection(uri: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()


def _prepare(connection: sqlite3.Connection, path: Path, owner: str) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    # The folder for temporary files may be on the same full disk.
    connection.execute("PRAGMA temp_store = MEMORY")
    # Else SQLite overwrites each freed page, which takes room in the log.
    connection.execute("PRAGMA secure_delete = OFF")
    # A kill while the file was growing left the free pages in there.
    connection.execute("DROP TABLE IF EXISTS room")
    connection.create_function("name_key", 1, rows.name_key, deterministic=True)
    version, scripts = _version(connection), migrations("sqlite")
    if version > len(scripts):
        raise LedgerUnavailable(
            f"the ledger {path} was written by a newer version of the gateway; start that version"
        )
    if version == 0:
        log.info("made a new ledger, %s; a gateway that has run before has one elsewhere", path)
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;"
        )
    # Nobody but the process that began an attempt sends it, and that process is gone.
    connection.execute(
        _without_lock(sql.TAKE_OVER_ABANDONED.replace("{owner_is_dead}", OWNER_IS_DEAD)),
        rows.abandoned_params(owner, datetime.now(UTC)),
    ).fetchall()


def _require_version(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) != len(migrations("sqlite")):
        raise LedgerUnavailable(
            f"the ledger {path} belongs to another version of the gateway; use that version's "
            "command, or start this version's gateway once"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
