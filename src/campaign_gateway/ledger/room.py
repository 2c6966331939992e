"""Room for outcomes inside the files of a SQLite ledger, where nobody else can take it.

The database file has free pages for the outcomes of all calls under way, and the write-ahead log
is never shorter than `LOG_BYTES`. SQLite then only overwrites blocks that are allocated, in place.
A file system that copies on write (btrfs, ZFS) needs free blocks for that too, and breaks this.
"""

import fcntl
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

# Four times what the log holds when it is moved into the database file.
LOG_BYTES = 4 * 1024 * 1024

# What the record of an intent or an outcome may add to the file: its row and the indexes' pages.
PAGES_EACH = 4

# How many pages the file grows by in one transaction.
STEP_PAGES = 256

# How many free pages the file gets at least beyond those that are needed: more in a large file,
# which grows seldom then, and never so many that the growing keeps callers waiting for long.
SPARE_PAGES = 256
MOST_SPARE_PAGES = 1024

# Where SQLite locks a database file that is in use, and a `-shm` file that is in use. The latter
# begins with the index of the log, of which a zeroed header says that it has to be built anew.
DATABASE_BYTES = (0x40000000 + 2, 510)
INDEX_BYTES = (128, 1)
INDEX_HEADER = 136
INDEX_SIZE = 32 * 1024
LOG_HEADER = 32


class Room:
    """Keeps the room in a ledger that this process alone writes intents into.

    `database` must stay open as long as SQLite has the file open, because closing it would release
    SQLite's locks.
    """

    def __init__(self, path: Path, database: int) -> None:
        self._path = path
        self._database = database
        # What was found free, less what intents have taken since: looking costs more than that.
        self._spare = 0

    def keep_log(self) -> None:
        """Keep SQLite from deleting the log when it closes the ledger, from now on."""
        _lock(self._database, fcntl.F_RDLCK, DATABASE_BYTES)

    def is_enough(
        self, connection: sqlite3.Connection, intents: Iterable[Mapping[str, object]]
    ) -> bool:
        """Whether the intents and the outcomes of all calls under way have room, made if need be.

        Has to be called outside a transaction, by the only writer. Raises `OSError` and
        `sqlite3.Error`.
        """
        wanted = sum(PAGES_EACH + _pages_of(each) for each in intents)
        if wanted > self._spare:
            self._spare = self._make_spare(connection, wanted)
        if wanted > self._spare:
            return False
        self._spare -= wanted
        return True

    def _make_spare(self, connection: sqlite3.Connection, wanted: int) -> int:
        """How many free pages the calls under way do not need, at least `wanted` if possible."""
        reserved = PAGES_EACH * _value(
            connection, "SELECT count(*) FROM duplication WHERE status = 'IN_PROGRESS'"
        )
        self._lengthen_log(connection)
        needed = reserved + wanted
        if self._free_pages(connection) < needed:
            eighth = _value(connection, "PRAGMA page_count") // 8
            spare = max(needed, SPARE_PAGES, min(eighth, MOST_SPARE_PAGES))
            self._grow(connection, needed + spare)
        return self._free_pages(connection) - reserved

    def _free_pages(self, connection: sqlite3.Connection) -> int:
        """How many pages can be used without the file growing."""
        size = os.fstat(self._database).st_size // _value(connection, "PRAGMA page_size")
        outside = max(0, _value(connection, "PRAGMA page_count") - size)
        return _value(connection, "PRAGMA freelist_count") - outside

    def _grow(self, connection: sqlite3.Connection, pages: int) -> None:
        page_size = _value(connection, "PRAGMA page_size")
        try:
            for done in range(0, pages, STEP_PAGES):
                step = min(STEP_PAGES, pages - done)
                # First the blocks, then the pages: a page that is only in the log would keep SQLite
                # from moving the log into the file, and so from using the log anew.
                end = (_value(connection, "PRAGMA page_count") + step + 8) * page_size
                _fill(self._database, end)
                connection.execute("CREATE TABLE IF NOT EXISTS room (zeros BLOB)")
                connection.execute("INSERT INTO room VALUES (zeroblob(?))", [step * page_size])
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            connection.execute("DROP TABLE IF EXISTS room")

    def _lengthen_log(self, connection: sqlite3.Connection) -> None:
        name = self._path.with_name(f"{self._path.name}-wal")
        if name.stat().st_size >= LOG_BYTES:
            return
        # Nobody writes to the log meanwhile. SQLite takes zeros for its end.
        connection.execute("BEGIN IMMEDIATE")
        try:
            with name.open("r+b") as file:
                _fill(file.fileno(), LOG_BYTES)
        finally:
            connection.execute("ROLLBACK")


@contextmanager
def kept_files(path: Path) -> Iterator[int]:
    """Keep SQLite from giving up room as it opens and closes the ledger.

    Yields the descriptor of the database file. SQLite truncates the `-shm` file when it is the
    first to open it, and deletes it and the log when it is the last to close them. Locks make it
    believe that it is neither.
    """
    database = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    index = os.open(path.with_name(f"{path.name}-shm"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if _lock(index, fcntl.F_WRLCK, INDEX_BYTES):
            # Whoever wrote it is gone, perhaps in the middle of writing.
            with suppress(OSError):
                os.pwrite(index, bytes(INDEX_HEADER), 0)
                _fill(index, INDEX_SIZE)
        _lock(index, fcntl.F_RDLCK, INDEX_BYTES)
        yield database
        # An older copy of the database file, put in its place, must not be given what the log says.
        if _lock(database, fcntl.F_WRLCK, DATABASE_BYTES) and _is_log_spent(index):
            _forget_log(path)
    finally:
        os.close(index)
        os.close(database)


def _is_log_spent(index: int) -> bool:
    """Whether all of the log has been moved into the database file (see SQLite's `wal.c`)."""
    header = os.pread(index, INDEX_HEADER, 0)
    if len(header) < INDEX_HEADER:
        return False
    (is_built, frames) = struct.unpack_from("=B3xI", header, 12)
    (moved,) = struct.unpack_from("=I", header, 96)
    return bool(is_built) and frames == moved


def _forget_log(path: Path) -> None:
    with suppress(OSError), path.with_name(f"{path.name}-wal").open("r+b") as file:
        os.pwrite(file.fileno(), bytes(LOG_HEADER), 0)
        os.fsync(file.fileno())


def _lock(file: int, kind: int, where: tuple[int, int]) -> bool:
    """Whether the lock was got. It belongs to the descriptor, and so keeps SQLite's out."""
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None:
        return False
    try:
        fcntl.fcntl(file, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, *where, 0))
    except OSError:
        return False
    return True


def _fill(file: int, end: int) -> None:
    """Write zeros from the file's end on. A file that only claims its size has no blocks."""
    start = written = os.fstat(file).st_size
    try:
        while written < end:
            written += os.pwrite(file, bytes(min(end - written, 1024 * 1024)), written)
    except OSError:
        os.ftruncate(file, start)
        raise


def _pages_of(values: Mapping[str, object]) -> int:
    # Up to four bytes a character, and an overflow page holds little less than a page.
    length = sum(len(each) for each in values.values() if isinstance(each, str))
    return PAGES_EACH + 4 * length // 4000


def _value(connection: sqlite3.Connection, query: str) -> int:
    (value,) = connection.execute(query).fetchone()
    return int(value)
