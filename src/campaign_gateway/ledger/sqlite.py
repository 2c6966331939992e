"""The ledger in one SQLite file, for one gateway process."""

import fcntl
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, ClassVar

from campaign_gateway.ledger import rows, sql
from campaign_gateway.ledger.disk_reserve import DiskReserve, open_descriptor
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.file_modes import make_private, open_private
from campaign_gateway.ledger.migrations import migrations
from campaign_gateway.ledger.writer import Writer, exclusive_lock, free_bytes, sidecar
from campaign_gateway.observe import metrics
from campaign_gateway.observe.events import taken_over

log = logging.getLogger(__name__)

# The gateway that starts has the file for itself, so all other gateways have stopped.
OWNER_IS_DEAD = "owner <> :owner"

# The check asks for the space of a large intent. Otherwise it could succeed on a disk that has no
# space for intents.
LARGE_INTENT = {"text": " " * 4000}

# At how many pages of 4 KiB SQLite moves the write-ahead log into the file.
CHECKPOINT_PAGES = 250


class SqliteEngine:
    """Standard `sqlite3` in WAL mode with synchronous=FULL, written by one thread.

    Raises `LedgerUnavailable` if another process holds the file, the file cannot be written, or a
    newer version of the gateway has written it. With `as_operator`, the file is opened while a
    gateway holds it, for reads and manual resolutions.
    """

    kind: ClassVar = "sqlite"

    def __init__(self, path: Path, owner: str, *, as_operator: bool = False) -> None:
        # Each path that leads to the same file must use the same lock file.
        path = path.resolve()
        if path.is_dir() or not path.parent.is_dir():
            raise LedgerUnavailable(
                f"the ledger {path} cannot be used: give a file in a folder that exists"
            )
        if as_operator and not path.exists():
            raise LedgerUnavailable(f"the ledger {path} does not exist; a gateway creates it")
        location = path.as_uri()
        try:
            with ExitStack() as stack:
                lock = stack.enter_context(open(sidecar(path, "-lock"), "a", opener=open_private))
                reserve = None
                if not as_operator:
                    _lock(lock, path)
                    # Earlier versions had the reserve in a separate file.
                    sidecar(path, "-ballast").unlink(missing_ok=True)
                    files = [sidecar(path, suffix) for suffix in ("-wal", "-shm", "-lock")]
                    make_private([path, *files])
                    reserve = DiskReserve(path, stack.enter_context(open_descriptor(path)))
                connection = stack.enter_context(_connection(f"{location}?mode=rwc"))
                connection.execute("PRAGMA synchronous = FULL")
                if reserve is None:
                    require_version(connection, path)
                else:
                    with exclusive_lock(lock):
                        _prepare(connection, path, owner)
                self._reader = stack.enter_context(_connection(f"{location}?mode=ro"))
                self._resources = stack.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailable(f"the ledger {path} cannot be used: {error}") from error
        self.writer = Writer(path, connection, lock, reserve)

    async def close(self) -> None:
        await self.writer.close()
        self._resources.close()

    async def read(self, statement: str, values: Mapping[str, object]) -> Sequence[sqlite3.Row]:
        # On the event loop, because an indexed read of a local file costs less than a thread.
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            metrics.count_ledger_failure("read")
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

    async def count_others(self) -> int:
        # The lock keeps them out.
        return 0

    async def check(self) -> Sequence[str]:
        await self.writer.write([("SELECT 1", LARGE_INTENT)], is_intent=True)
        return []

    def free_bytes(self) -> int | None:
        return free_bytes(self.writer.path)


def _without_lock(statement: str) -> str:
    # One thread of one process chooses rows, so no other gateway can choose the same rows.
    return statement.replace("{lock}", "")


def _lock(file: IO[str], path: Path) -> None:
    """Lock a second file for this process. SQLite's own locks would let two gateways alternate."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise LedgerUnavailable(
            f"the ledger {path} is in use by another gateway; stop that one, or give this one "
            "another ledger"
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
    # The folder for temporary files may be on the same disk, which may be full.
    connection.execute("PRAGMA temp_store = MEMORY")
    # Otherwise SQLite overwrites each freed page, which takes space in the log.
    connection.execute("PRAGMA secure_delete = OFF")
    # If the process was killed while the reserve grew, this table has the free pages.
    connection.execute("DROP TABLE IF EXISTS room")
    connection.create_function("name_key", 1, rows.name_key, deterministic=True)
    version, scripts = _version(connection), migrations("sqlite")
    if version > len(scripts):
        raise LedgerUnavailable(
            f"the ledger {path} was written by a newer version of the gateway; start that version, "
            "or restore the backup that was made before the update"
        )
    if version == 0:
        log.info(
            "created the ledger %s; if this gateway has run before, it used another file", path
        )
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;"
        )
    # Only the process that began an attempt sends it, and that process has ended.
    now = datetime.now(UTC)
    orphans = connection.execute(
        _without_lock(sql.TAKE_OVER_ABANDONED.replace("{owner_is_dead}", OWNER_IS_DEAD)),
        rows.abandoned_params(owner, now),
    ).fetchall()
    taken_over(map(rows.parse_row, orphans), now)


def require_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raises `LedgerUnavailable` if the tables are not those of this version."""
    if _version(connection) != len(migrations("sqlite")):
        raise LedgerUnavailable(
            f"the ledger {path} belongs to another version of the gateway; use that version's "
            "command, or start this version's gateway once"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
