"""What tests of the ledgers read from them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from campaign_gateway.ledger import Ledger
from campaign_gateway.model import Duplication, DuplicationStatus


async def status_of(ledger: Ledger, key: str) -> DuplicationStatus | None:
    record = await ledger.find("everyone", key)
    return None if record is None else record.status


def as_listed(record: Duplication) -> Duplication:
    """Return the record as lists contain it."""
    return replace(record, intent=replace(record.intent, input=""), preexisting_ids=None)


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open another connection to a SQLite ledger."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection
