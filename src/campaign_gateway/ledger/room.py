"""Room for outcomes inside the files of a SQLite ledger, where nobody else can take it.

The database file has free pages for the outcomes of all calls under way, and the write-ahead log
is never shorter than `LOG_BYTES`. SQLite then only overwrites blocks that are allocated, in place.
A file system that copies on write (btrfs, ZFS) needs free blocks for that too, and breaks this.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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


class DiskReserve:
    """Keeps the room in a ledger that this process alone writes intents into.

    `database` must stay open as long as SQLite has the file open, because closing it would release
    SQLite's locks.
    """

    def __init__(self, path: Path, database: int) -> None:
        self._path = path
        self._database = database
        # What was found free, less what intents have taken since: looking costs more than that.
        self._spare = 0

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
def descriptor(path: Path) -> Iterator[int]:
    """Of the database file. SQLite has to close first, because this releases its locks."""
    database = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield database
    finally:
        os.close(database)


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
