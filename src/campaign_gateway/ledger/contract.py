"""What a ledger promises: durable records of intents, and who may move them where."""

import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from campaign_gateway.outcomes import (
    Accepted,
    Campaign,
    Created,
    DuplicationStatus,
    Evidence,
    Outcome,
    Rejected,
    Unknown,
    UserError,
)


class LedgerUnavailable(Exception):
    """Nothing could be written or read; a write that raised this may still have been committed."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What is recorded before the first byte leaves.

    `nonce` tells this attempt's row from one that another attempt wrote for the same key.
    `input` is the provider's input as JSON; it holds no secret.
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


@dataclass(frozen=True, slots=True)
class Duplication:
    """One intent with what has become of it."""

    intent: Intent
    status: DuplicationStatus
    requested_at: datetime
    campaign: Campaign | None = None
    error: UserError | None = None
    evidence: Evidence | None = None
    provider_trace_id: str | None = None
    settled_at: datetime | None = None
    checks: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which duplications to list; None does not narrow. `since` is included, `until` is not."""

    status: DuplicationStatus | None = None
    provider: str | None = None
    account: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Ledger(Protocol):
    """Every method raises `LedgerUnavailable`. A write has happened durably when it returns.

    A status only ever moves up: IN_PROGRESS, UNKNOWN, ACCEPTED, then CREATED or REJECTED.
    """

    async def find(self, scope: str, key: str) -> Duplication | None: ...

    async def get(self, scope: str, duplication_id: str) -> Duplication | None: ...

    async def list(
        self, scope: str, selection: Selection, limit: int, before_id: str | None
    ) -> Sequence[Duplication]:
        """Newest first."""
        ...

    async def begin(self, intent: Intent, now: datetime) -> Duplication:
        """Record the intent, unless its key is taken: then the record that holds the key."""
        ...

    async def settle(
        self, intent: Intent, outcome: Outcome, now: datetime, next_check_at: datetime | None
    ) -> Duplication:
        """Record what the provider answered to the attempt with this intent's nonce."""
        ...

    async def settle_by_reading(
        self, duplication: Duplication, campaign: Campaign, evidence: Evidence, now: datetime
    ) -> bool:
        """Record the copy that was found for an ACCEPTED or UNKNOWN duplication.

        Does nothing and answers False when it is settled, or the campaign is a known copy, already.
        """
        ...

    async def due(self, now: datetime, limit: int) -> Sequence[Duplication]:
        """ACCEPTED and UNKNOWN duplications that are to be checked, longest due first."""
        ...

    async def postpone(self, duplication: Duplication, next_check_at: datetime) -> None: ...

    async def rivals(self, duplication: Duplication) -> Sequence[Duplication]:
        """Unsettled duplications of its account and name, itself among them, oldest first."""
        ...

    async def claimed(self, account: str, campaign_ids: Iterable[str]) -> frozenset[str]:
        """Those of the campaigns that are known copies already."""
        ...

    async def near(self, scope: str, account: str, campaign_id: str) -> Duplication | None:
        """A duplication that the campaign was the copy or the source of."""
        ...

    async def check(self) -> None:
        """Raises `LedgerUnavailable` unless the ledger could take a new intent now."""
        ...

    async def close(self) -> None: ...


def new_id() -> str:
    """A UUID of version 7 (RFC 9562, method 3): ids sort by the microsecond they were made in."""
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
