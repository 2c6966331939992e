"""Limits what the duplications of one caller may occupy in the ledger."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from campaign_gateway.duplication.errors import TOO_MANY_RECORDS, too_many_unknown
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.model import Intent, Refused
from campaign_gateway.web.callers.caller import Quota

log = logging.getLogger(__name__)

# How long a number of UNKNOWN duplications counts as current, in seconds.
UNKNOWN_SECONDS = 1.0

# How often the records of each caller are measured, in seconds, and how many in one statement: few,
# because a read of SQLite holds the event loop.
MEASURE_SECONDS = 600.0
MEASURED_AT_ONCE = 500

# Bytes of a record in addition to its input.
RECORD_OVERHEAD = 500


@dataclass(slots=True)
class _Usage:
    """What a scope has in the ledger. The numbers are a little old."""

    unknown: int = 0
    unknown_until: float = 0.0
    records: int = 0
    size: int = 0


class Quotas:
    """The quotas of the scopes that have one."""

    def __init__(self, ledger: Ledger, quotas: Mapping[str, Quota]) -> None:
        self._ledger = ledger
        self._quotas = quotas
        self._usage = {scope: _Usage() for scope in quotas}

    async def check(self, intent: Intent) -> None:
        """Raises `Refused` if the intent may not be recorded, and `LedgerUnavailable`."""
        quota = self._quotas.get(intent.scope)
        if quota is None:
            return
        usage = self._usage[intent.scope]
        if usage.records >= quota.records or usage.size + _size_of(intent) > quota.size:
            raise Refused(TOO_MANY_RECORDS)
        if monotonic() >= usage.unknown_until:
            usage.unknown = await self._ledger.count_unknown(intent.scope, quota.unknown)
            usage.unknown_until = monotonic() + UNKNOWN_SECONDS
        if usage.unknown >= quota.unknown:
            raise Refused(too_many_unknown(quota.unknown))

    def count(self, intent: Intent) -> None:
        """Count an intent that was recorded."""
        usage = self._usage.get(intent.scope)
        if usage is not None:
            usage.records += 1
            usage.size += _size_of(intent)

    async def measure_for_ever(self) -> None:
        """Correct what `count` has counted: records expire, and other gateways record too."""
        while True:
            for scope in self._quotas:
                try:
                    await self.measure(scope)
                except LedgerUnavailable as failure:
                    log.error("the records of %s cannot be counted: %s", scope, failure)
            await asyncio.sleep(MEASURE_SECONDS)

    async def measure(self, scope: str) -> None:
        """Raises `LedgerUnavailable`."""
        usage = self._usage[scope]
        before = usage.records, usage.size
        records = size = 0
        after: str | None = ""
        while after is not None:
            count, length, after = await self._ledger.measure(scope, after, MEASURED_AT_ONCE)
            records += count
            size += length + count * RECORD_OVERHEAD
            await asyncio.sleep(0)
        # Intents that were recorded meanwhile may have been counted twice, until the next time.
        usage.records += records - before[0]
        usage.size += size - before[1]


def _size_of(intent: Intent) -> int:
    return len(intent.input) + RECORD_OVERHEAD
