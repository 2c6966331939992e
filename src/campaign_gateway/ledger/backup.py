"""Makes a copy of the ledger while gateways use it. No gateway serves from it until it is declared.

The copy has one row more than the ledger: the time since which it has no records.
"""

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from campaign_gateway.ledger import rows, sql
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.sqlite import require_version


def back_up(url: str, target: Path) -> datetime:
    """Write a copy of the ledger to a new file. Return the time since which it has no records.

    Raises `LedgerUnavailable`, and leaves no file then.
    """
    try:
        if url.startswith("sqlite:"):
            path = Path(url.removeprefix("sqlite:///")).resolve()
            return _write_new(target, lambda file: _copy_sqlite(path, file))
        from campaign_gateway.ledger.postgres_dump import dump  # noqa: PLC0415 - an extra

        return _write_new(target, lambda file: dump(url, file))
    except (sqlite3.Error, OSError) as error:
        raise LedgerUnavailable(f"the backup was not made: {error}") from error


def _write_new(target: Path, write: Callable[[Path], datetime]) -> datetime:
    """Call `write` for a file that gets its name when it is complete and on the disk."""
    if target.exists():
        raise LedgerUnavailable(f"{target} exists already; name a new file")
    # The mode of a temporary file is 0600.
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        made_at = write(Path(name))
        os.fsync(descriptor)
        # Unlike a rename, a link never replaces a file.
        os.link(name, target)
    finally:
        os.close(descriptor)
        Path(name).unlink()
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return made_at


def _copy_sqlite(path: Path, file: Path) -> datetime:
    if not path.exists():
        raise LedgerUnavailable(f"the ledger {path} does not exist; a gateway creates it")
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(file, isolation_level=None)) as copy,
    ):
        require_version(source, path)
        made_at = datetime.now(UTC)
        # All pages in one step, which reads one state of the ledger while its gateway writes.
        source.backup(copy)
        # Otherwise a part of the copy could be in a second file.
        copy.execute("PRAGMA journal_mode = DELETE")
        copy.execute(sql.MARK_COPY, {"now": rows.to_micros(made_at)})
        (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise LedgerUnavailable(f"the backup was not made: the ledger is damaged: {found}")
    return made_at
