"""Reserves disk space for outcomes inside the files of a SQLite ledger, where only SQLite uses it.

The database file has free pages for the outcomes of all calls in progress, and the write-ahead log
is never shorter than `LOG_BYTES`. SQLite then only overwrites allocated blocks in place. A
copy-on-write file system (btrfs, ZFS) needs free blocks to overwrite too, so there the reserve does
not work.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from campaign_gateway.ledger.file_modes import open_private

# Four times the size at which SQLite moves the log into the database file.
LOG_BYTES = 4 * 1024 * 1024

# How many pages the record of an intent or an outcome may add: its row and the pages of indexes.
PAGES_PER_RECORD = 4

# How many pages the file grows by in one transaction.
GROWTH_STEP_PAGES = 256

# How many free pages the file gets beyond the needed ones, when it grows: an eighth of its size
# within these limits. A large file grows seldom, and callers never wait long for the growth.
MIN_SPARE_PAGES = 256
MAX_SPARE_PAGES = 1024


class DiskReserve:
    """Keeps free space in the files of a ledger. Only this process may write intents into it.

    `database` is a file descriptor. It must stay open as long as SQLite has the file open, because
    closing it would release SQLite's locks.
    """

    def __init__(self, path: Path, database: int) -> None:
        self._path = path
        self._database = database
        # The free pages at the last count, less the pages of the intents since. Counting them for
        # each intent would cost more.
        self._spare = 0

    def allocate(
        self, connection: sqlite3.Connection, intents: Iterable[Mapping[str, object]]
    ) -> bool:
        """Return whether the intents and the outcomes of all calls in progress have space.

        The file grows if necessary. The caller must be the only writer, and outside a transaction.
        Raises `OSError` and `sqlite3.Error`.
        """
        pages = sum(PAGES_PER_RECORD + _pages_of(values) for values in intents)
        if pages > self._spare:
            self._spare = self._provide_spare(connection, pages)
        if pages > self._spare:
            return False
        self._spare -= pages
        return True

    def _provide_spare(self, connection: sqlite3.Connection, pages: int) -> int:
        """Return how many free pages the calls in progress leave, if possible at least `pages`."""
        reserved = PAGES_PER_RECORD * _value(
            connection, "SELECT count(*) FROM duplication WHERE status = 'IN_PROGRESS'"
        )
        self._lengthen_log(connection)
        needed = reserved + pages
        if self._free_pages(connection) < needed:
            eighth = _value(connection, "PRAGMA page_count") // 8
            spare = max(needed, MIN_SPARE_PAGES, min(eighth, MAX_SPARE_PAGES))
            self._grow(connection, needed + spare)
        return self._free_pages(connection) - reserved

    def _free_pages(self, connection: sqlite3.Connection) -> int:
        """Return how many pages SQLite can use before the file grows."""
        size = os.fstat(self._database).st_size // _value(connection, "PRAGMA page_size")
        outside = max(0, _value(connection, "PRAGMA page_count") - size)
        return _value(connection, "PRAGMA freelist_count") - outside

    def _grow(self, connection: sqlite3.Connection, pages: int) -> None:
        page_size = _value(connection, "PRAGMA page_size")
        try:
            for done in range(0, pages, GROWTH_STEP_PAGES):
                step = min(GROWTH_STEP_PAGES, pages - done)
                # First the blocks, then the pages. If a page were only in the log, SQLite could not
                # move the log into the file, and so could not use the log again from its start.
                end = (_value(connection, "PRAGMA page_count") + step + 8) * page_size
                _fill(self._database, end)
                connection.execute("CREATE TABLE IF NOT EXISTS room (zeros BLOB)")
                connection.execute("INSERT INTO room VALUES (zeroblob(?))", [step * page_size])
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            connection.execute("DROP TABLE IF EXISTS room")

    def _lengthen_log(self, connection: sqlite3.Connection) -> None:
        log = self._path.with_name(f"{self._path.name}-wal")
        if log.stat().st_size >= LOG_BYTES:
            return
        # The transaction keeps other writers away from the log. SQLite takes zeros for its end.
        connection.execute("BEGIN IMMEDIATE")
        try:
            with log.open("r+b") as file:
                _fill(file.fileno(), LOG_BYTES)
        finally:
            connection.execute("ROLLBACK")


@contextmanager
def open_descriptor(path: Path) -> Iterator[int]:
    """Open the database file. SQLite has to close it first, because closing releases its locks."""
    database = open_private(str(path), os.O_RDWR | os.O_CREAT)
    try:
        yield database
    finally:
        os.close(database)


def _fill(file: int, end: int) -> None:
    """Write zeros from the file's end on. `ftruncate` alone would allocate no blocks."""
    start = written = os.fstat(file).st_size
    try:
        while written < end:
            written += os.pwrite(file, bytes(min(end - written, 1024 * 1024)), written)
    except OSError:
        os.ftruncate(file, start)
        raise


def _pages_of(values: Mapping[str, object]) -> int:
    # A character has up to four bytes, and an overflow page holds about 4,000 bytes.
    length = sum(len(value) for value in values.values() if isinstance(value, str))
    return PAGES_PER_RECORD + 4 * length // 4000


def _value(connection: sqlite3.Connection, query: str) -> int:
    (value,) = connection.execute(query).fetchone()
    return int(value)
