"""The values of the ledger, and what it needs of a database."""

import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from campaign_gateway.outcomes import (
    Accepted,
    Campaign,
    CopyWarning,
    Created,
    DuplicationStatus,
    Evidence,
    Outcome,
    Rejected,
    Unknown,
    UserError,
)


class LedgerUnavailable(Exception):
    """Nothing could be written or read."""


class LedgerClosed(LedgerUnavailable):
    """The gateway has come to its end and closed its ledger."""


class InDoubt(LedgerUnavailable):
    """No word came of a write, which may have been committed, or may yet be."""


class KeyTaken(Exception):
    """The key stands for another attempt's record already."""

    def __init__(self, duplication: "Duplication") -> None:
        super().__init__()
        self.duplication = duplication


class Unresolved(Exception):
    """The newest attempt at the same copy is UNKNOWN, and the caller did not name it.

    It is None when the caller named one that is not, or no longer, what stands in the way.
    """

    def __init__(self, duplication: "Duplication | None") -> None:
        super().__init__()
        self.duplication = duplication


# Where a page of a list ends: when its last duplication was requested, and its id.
Place = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class Intent:
    """What is recorded before the first byte leaves.

    `nonce` tells this attempt's row from one that another attempt wrote for the same key.
    `input` is the provider's input as JSON; it holds no secret. `seen` are the ids of the campaigns
    that had the copy's name before the send; None when nobody looked. `platform` is where the
    account leads to, and the kind of campaign where ids depend on it: accounts of one platform see
    the same campaigns.
    """

    id: str
    nonce: str
    scope: str
    key: str
    fingerprint: str
    provider: str
    account: str
    source_campaign_id: str
    requested_name: str | None
    input: str
    seen: tuple[str, ...] | None = None
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Duplication:
    """One intent with what has become of it.

    `campaign` is the copy, or the copy to be of an ACCEPTED one. `candidates` are the campaigns of
    which the last check could not tell which is the copy. Of an `expired` one nothing is kept but
    that its key was used and how it ended.
    """

    intent: Intent
    status: DuplicationStatus
    requested_at: datetime
    campaign: Campaign | None = None
    error: UserError | None = None
    evidence: Evidence | None = None
    provider_trace_id: str | None = None
    settled_at: datetime | None = None
    checks: int = 0
    warnings: tuple[CopyWarning, ...] = ()
    candidates: tuple[Campaign, ...] = ()
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Which duplications to list; None does not narrow. `since` is included, `until` is not."""

    statuses: tuple[DuplicationStatus, ...] | None = None
    provider: str | None = None
    account: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Row(Protocol):
    """What every engine gives for a duplication."""

    def __getitem__(self, name: str, /) -> Any: ...


class Engine(Protocol):
    """What one kind of database has to offer.

    Every method raises `LedgerUnavailable`, and `write` also `InDoubt`.

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


def new_id() -> str:
    """A UUID of version 7 (RFC 9562, method 3).

    Nothing may be ordered by ids: gateways with different clocks make them.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    value = (milliseconds << 80) | (0x7 << 76) | (rest * 4096 // 1_000_000 << 64)
    return str(uuid.UUID(int=value | (0b10 << 62) | secrets.randbits(62)))


def status_of(outcome: Outcome) -> DuplicationStatus:
    match outcome:
        case Created():
            return DuplicationStatus.CREATED
        case Accepted():
            return DuplicationStatus.ACCEPTED
        case Rejected():
            return DuplicationStatus.REJECTED
        case Unknown():
            return DuplicationStatus.UNKNOWN
