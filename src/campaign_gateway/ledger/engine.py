"""What the ledger needs of a database, and the errors that it raises."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Protocol

from campaign_gateway.model import Duplication


class LedgerUnavailable(Exception):
    """The database could not be read or written."""


class DiskFull(LedgerUnavailable):
    """The disk of the database has no space for a new intent."""


class LedgerClosed(LedgerUnavailable):
    """The gateway has stopped and closed its ledger."""


class CommitUncertain(LedgerUnavailable):
    """A write was not confirmed. It may have been committed, or may be committed later."""


class KeyConflict(Exception):
    """The record of a sent attempt has vanished, and another attempt's record holds its key."""

    def __init__(self, duplication: "Duplication") -> None:
        super().__init__()
        self.duplication = duplication


# Where a page of a list ends: the time of the request and the id of its last duplication.
Cursor = tuple[datetime, str]


class Row(Protocol):
    """A row of a result, by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


class Engine(Protocol):
    """Runs the statements of `ledger.sql` on one kind of database.

    Every method raises `LedgerUnavailable`, and a write also `CommitUncertain`. Each statement is a
    transaction, unless `write_all` runs it. The engine replaces `{lock}` in a statement with its
    way to keep several gateways from choosing the same rows.
    """

    kind: ClassVar[str]

    async def read(self, statement: str, values: Mapping[str, object]) -> Sequence[Row]: ...

    async def write(
        self, statement: str, values: Mapping[str, object], *, is_intent: bool = False
    ) -> Sequence[Row]:
        """Return the rows of the statement when it is durable.

        If the database has little space, it refuses intents, and keeps the space for outcomes.
        """
        ...

    async def write_all(
        self, steps: Sequence[tuple[str, Mapping[str, object]]]
    ) -> Sequence[Sequence[Row]]:
        """Run the statements in one transaction. Return their rows when it is durable."""
        ...

    def now(self) -> datetime:
        """Return the time of the one clock that all gateways of this ledger share."""
        ...

    async def count_others(self) -> int:
        """Return how many other gateways use the database, or did so in the last seconds."""
        ...

    async def check(self) -> Sequence[str]:
        """Return warnings for the operator about settings that weaken the promise.

        Raises `LedgerUnavailable` if the database could not record a new intent now.
        """
        ...

    def free_bytes(self) -> int | None:
        """Return the free bytes of the database's file system, or None if it is not known here."""
        ...

    async def close(self) -> None: ...
