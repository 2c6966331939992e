"""The values of the ledger, and what it needs of a database."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from campaign_gateway.model import Duplication


class LedgerUnavailable(Exception):
    """Nothing could be written or read."""


class LedgerClosed(LedgerUnavailable):
    """The gateway has come to its end and closed its ledger."""


class CommitUncertain(LedgerUnavailable):
    """No word came of a write, which may have been committed, or may yet be."""


class KeyConflict(Exception):
    """The record of a sent attempt has vanished, and another attempt's record holds its key."""

    def __init__(self, duplication: "Duplication") -> None:
        super().__init__()
        self.duplication = duplication


# Where a page of a list ends: when its last duplication was requested, and its id.
Place = tuple[datetime, str]


class Row(Protocol):
    """What every engine gives for a duplication."""

    def __getitem__(self, name: str, /) -> Any: ...


class Engine(Protocol):
    """What one kind of database has to offer.

    Every method raises `LedgerUnavailable`, and `write` also `CommitUncertain`.

    A statement is a transaction of its own. `{lock}` in it stands for the engine's own way to keep
    several gateways from choosing the same rows.
    """

    async def read(self, statement: str, values: Mapping[str, object]) -> Sequence[Row]: ...

    async def write(
        self, statement: str, values: Mapping[str, object], *, is_intent: bool = False
    ) -> Sequence[Row]:
        """What the statement returns, once it is durable.

        A database in need refuses intents first, to have room for what has to be recorded.
        """
        ...

    async def write_all(
        self, steps: Sequence[tuple[str, Mapping[str, object]]]
    ) -> Sequence[Sequence[Row]]:
        """What each of the statements returns, once they are durable in one transaction."""
        ...

    def now(self) -> datetime:
        """The time by the one clock that all gateways of this ledger share."""
        ...

    async def check(self) -> Sequence[str]:
        """What about the database weakens the promise, in words for whoever runs it.

        Raises `LedgerUnavailable` unless it could take a new intent now.
        """
        ...

    async def close(self) -> None: ...
