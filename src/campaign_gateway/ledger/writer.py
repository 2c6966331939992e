"""The one thread that writes a SQLite ledger. Many writes share a COMMIT, and so one fsync."""

import asyncio
import fcntl
import logging
import os
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from campaign_gateway.ledger.disk_reserve import DiskReserve
from campaign_gateway.ledger.engine import DiskFull, LedgerClosed, LedgerUnavailable
from campaign_gateway.observe import metrics

log = logging.getLogger(__name__)

Rows = list[sqlite3.Row]
Steps = Sequence[tuple[str, Mapping[str, object]]]

BATCH_LIMIT = 256

# For how long a batch waits for more writes, after one that had several. With 16 calls, four times
# as many writes then share a COMMIT, and no call takes longer. A single caller never waits.
GATHER_SECONDS = 0.002

DISK_FAILURES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


@dataclass(slots=True)
class _Write:
    steps: Steps
    is_intent: bool
    future: asyncio.Future[list[Rows]]
    result: list[Rows] | LedgerUnavailable | None = None


@dataclass
class Writer:
    """Owns the writing connection. `lock` is the file whose record lock keeps other writers out.

    `reserve` is None for an operator, who records no intents.
    """

    path: Path
    connection: sqlite3.Connection
    lock: IO[str]
    reserve: DiskReserve | None
    _queue: "queue.SimpleQueue[_Write | None]" = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self._is_closed = False
        # As texts, because to build them from paths takes longer than the look at the files.
        self._names = [str(sidecar(self.path, ending)) for ending in ("", "-wal", "-lock")]
        self._files = _inodes(self._names)
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    async def write(self, steps: Steps, *, is_intent: bool) -> list[Rows]:
        """Return the rows of each statement when all are on the disk.

        Raises `LedgerUnavailable`.
        """
        if self._is_closed:
            raise LedgerClosed("the ledger is closed")
        future: asyncio.Future[list[Rows]] = asyncio.get_running_loop().create_future()
        self._queue.put(_Write(steps, is_intent, future))
        return await future

    async def close(self) -> None:
        self._is_closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        is_busy = False
        while (first := self._queue.get()) is not None:
            if is_busy:
                time.sleep(GATHER_SECONDS)
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
            is_busy = len(batch) > 1
            self._accept(batch)

    def _accept(self, batch: Sequence[_Write]) -> None:
        if _inodes(self._names) != self._files:
            # The next start would not find what is written now, and a retry would be sent again.
            # Without the lock file, a second gateway could start.
            _finish_all(batch, LedgerUnavailable(f"{self.path} was moved or deleted; put it back"))
            return
        intents = [write for write in batch if write.is_intent]
        if intents and (failure := self._allocation_failure(intents)):
            _finish_all(intents, failure)
            batch = [write for write in batch if not write.is_intent]
        if batch:
            self._commit(batch)

    def _allocation_failure(self, intents: Sequence[_Write]) -> LedgerUnavailable | None:
        """Return why the intents would take the space of outcomes, or None if there is space."""
        if self.reserve is None:
            return None
        values = [values for write in intents for _, values in write.steps]
        reason = "no space left"
        try:
            with exclusive_lock(self.lock):
                if self.reserve.allocate(self.connection, values):
                    return None
        except Exception as error:  # noqa: BLE001 - as in `_commit`
            if not isinstance(error, OSError) and not _is_disk_failure(error):
                return LedgerUnavailable(str(error))
            reason = getattr(error, "strerror", None) or str(error)
        free = free_bytes(self.path)
        room = "" if free is None else f", and its file system has {free} free bytes"
        return DiskFull(f"the disk of the ledger is full: {self.path} cannot grow ({reason}){room}")

    def _commit(self, batch: Sequence[_Write]) -> None:
        """Run all writes in one transaction. Callers get results only after the COMMIT."""
        began_at, changes = time.perf_counter(), self.connection.total_changes
        try:
            with exclusive_lock(self.lock):
                execute = self.connection.execute
                execute("BEGIN IMMEDIATE")
                for write in batch:
                    write.result = [execute(*step).fetchall() for step in write.steps]
                execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - if the thread ended, all callers would wait for ever
            with suppress(sqlite3.Error):
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
            if _is_disk_failure(error) and len(batch) > 1:
                self._commit_one_by_one(batch, error)
                return
            _finish_all(batch, LedgerUnavailable(str(error)))
            return
        _deliver(batch)
        # A transaction without a change writes nothing to the disk.
        if self.connection.total_changes > changes:
            metrics.observe_commit(time.perf_counter() - began_at, len(batch))

    def _commit_one_by_one(self, batch: Sequence[_Write], error: Exception) -> None:
        """Commit the outcomes when the log has no space for the whole batch in one transaction."""
        log.error("the ledger refuses new intents, and writes outcomes one by one: %s", error)
        _finish_all([write for write in batch if write.is_intent], LedgerUnavailable(str(error)))
        for write in batch:
            if not write.is_intent:
                # After each COMMIT, SQLite can move the log into the file and use it again.
                self._commit([write])


@contextmanager
def exclusive_lock(lock: IO[str]) -> Iterator[None]:
    """Keep other processes from writing to the ledger."""
    # Up to SQLite 3.51.2, a WAL can be corrupted if one connection resets it while another writes.
    fcntl.lockf(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN)


def _is_disk_failure(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in DISK_FAILURES


def _finish_all(batch: Sequence[_Write], failure: LedgerUnavailable) -> None:
    metrics.count_ledger_failure("write", len(batch))
    for write in batch:
        write.result = failure
    _deliver(batch)


def _deliver(batch: Sequence[_Write]) -> None:
    """Give the callers their results. Each event loop is woken once for all of its callers."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Write]] = {}
    for write in batch:
        by_loop.setdefault(write.future.get_loop(), []).append(write)
    for loop, writes in by_loop.items():
        # An event loop may be closed. The callers in others must get their results anyway.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_set_results, writes)


def _set_results(writes: Iterable[_Write]) -> None:
    for write in writes:
        if write.future.done():
            continue
        if isinstance(write.result, LedgerUnavailable):
            write.future.set_exception(write.result)
        else:
            assert write.result is not None, "only finished writes come here"
            write.future.set_result(write.result)


def _inodes(names: Iterable[str]) -> list[tuple[int, int]] | None:
    """Return device and inode of the ledger's files, or None if one of them is missing.

    They differ if a file was replaced by another of the same name.
    """
    try:
        stats = [os.stat(name) for name in names]  # noqa: PTH116 - as for the names
    except OSError:
        return None
    return [(stat.st_dev, stat.st_ino) for stat in stats]


def free_bytes(path: Path) -> int | None:
    """Return what this user may still write to the file system of the file."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def sidecar(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
