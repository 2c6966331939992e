"""The one thread that writes a SQLite ledger: many writes share a COMMIT, and so an fsync."""

import asyncio
import fcntl
import logging
import queue
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from campaign_gateway.ledger.engine import LedgerClosed, LedgerUnavailable
from campaign_gateway.ledger.room import DiskReserve

log = logging.getLogger(__name__)

Rows = list[sqlite3.Row]
Steps = Sequence[tuple[str, Mapping[str, object]]]

BATCH_LIMIT = 256

DISK_FAILURES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


@dataclass(frozen=True, slots=True)
class _Write:
    steps: Steps
    is_intent: bool
    future: asyncio.Future[list[Rows]]
    loop: asyncio.AbstractEventLoop

    def tell(self, result: list[Rows] | LedgerUnavailable) -> None:
        # A caller's loop may be gone; the others in the batch must still hear.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._tell, result)

    def _tell(self, result: list[Rows] | LedgerUnavailable) -> None:
        if self.future.done():
            return
        if isinstance(result, LedgerUnavailable):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


@dataclass
class Writer:
    """Owns the writing connection. `lock` is the file whose record lock keeps other writers out.

    `room` is None for a visitor of the ledger, who begins no intents.
    """

    path: Path
    connection: sqlite3.Connection
    lock: IO[str]
    room: DiskReserve | None
    _queue: "queue.SimpleQueue[_Write | None]" = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self._is_closed = False
        self._files = _inodes(self.path)
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    async def write(self, steps: Steps, *, is_intent: bool) -> list[Rows]:
        """What each statement returns, once all are on the disk. Raises `LedgerUnavailable`."""
        if self._is_closed:
            raise LedgerClosed("the ledger is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Rows]] = loop.create_future()
        self._queue.put(_Write(steps, is_intent, future, loop))
        return await future

    async def close(self) -> None:
        self._is_closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < BATCH_LIMIT:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._queue.put(None)
                    break
                batch.append(following)
            self._accept(batch)

    def _accept(self, batch: Sequence[_Write]) -> None:
        if _inodes(self.path) != self._files:
            # What is written now would be gone with the next start, and so would be resent; and
            # without the lock another gateway could start beside this one.
            _tell_all(batch, LedgerUnavailable(f"{self.path} was moved or deleted; put it back"))
            return
        intents = [write for write in batch if write.is_intent]
        if intents and (refusal := self._refusal(intents)):
            log.error("the ledger takes no new intents: %s", refusal)
            _tell_all(intents, refusal)
            batch = [write for write in batch if not write.is_intent]
        if batch:
            self._commit(batch)

    def _refusal(self, intents: Sequence[_Write]) -> LedgerUnavailable | None:
        """Why the intents cannot be recorded without taking the room of outcomes; None if they can.

        Makes room where the disk has some.
        """
        if self.room is None:
            return None
        try:
            with exclusive_lock(self.lock):
                if self.room.is_enough(
                    self.connection, [values for each in intents for _, values in each.steps]
                ):
                    return None
        except Exception as error:  # noqa: BLE001 - as in `_commit`
            if not isinstance(error, OSError) and not _is_disk_failure(error):
                return LedgerUnavailable(str(error))
        return LedgerUnavailable("the disk of the ledger is full")

    def _commit(self, batch: Sequence[_Write]) -> None:
        """One transaction for all; nobody hears of success before the COMMIT has returned."""
        try:
            with exclusive_lock(self.lock):
                self.connection.execute("BEGIN IMMEDIATE")
                results = [
                    [self.connection.execute(*step).fetchall() for step in write.steps]
                    for write in batch
                ]
                self.connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - a writer that dies would leave all waiting
            with suppress(sqlite3.Error):
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
            if _is_disk_failure(error) and len(batch) > 1:
                self._commit_what_fits(batch, error)
                return
            _tell_all(batch, LedgerUnavailable(str(error)))
            return
        for write, result in zip(batch, results, strict=True):
            write.tell(result)

    def _commit_what_fits(self, batch: Sequence[_Write], error: Exception) -> None:
        """The disk is full, and the log has no room for all of the batch in one transaction."""
        log.error("the ledger refuses intents and writes the rest one by one: %s", error)
        _tell_all([each for each in batch if each.is_intent], LedgerUnavailable(str(error)))
        for each in batch:
            if not each.is_intent:
                # Each COMMIT lets SQLite move the log into the file and use it anew.
                self._commit([each])


@contextmanager
def exclusive_lock(lock: IO[str]) -> Iterator[None]:
    """Keep other processes from writing to the ledger."""
    # Up to 3.51.2, SQLite can corrupt a WAL that one connection resets while another writes.
    fcntl.lockf(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN)


def _is_disk_failure(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in DISK_FAILURES


def _tell_all(batch: Sequence[_Write], failure: LedgerUnavailable) -> None:
    for write in batch:
        write.tell(failure)


def _inodes(path: Path) -> list[tuple[int, int]] | None:
    """Which files they are, whatever bears their names; None when one of them is missing."""
    try:
        found = [sidecar(path, ending).stat() for ending in ("", "-wal", "-lock")]
    except OSError:
        return None
    return [(each.st_dev, each.st_ino) for each in found]


def sidecar(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
