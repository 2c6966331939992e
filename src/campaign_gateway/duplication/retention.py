"""Removes old records, so that the ledger does not grow for ever. Used keys stay for longer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.model import Timing
from campaign_gateway.observe.events import ledger_failed

log = logging.getLogger(__name__)

# Between two batches, for the statements of other calls.
PAUSE_SECONDS = 0.05


async def retain(ledger: Ledger, keep: timedelta, remember: timedelta, timing: Timing) -> None:
    """Shrink what was settled `keep` ago and delete what was requested `remember` ago, for ever.

    Both times are by the ledger's clock, in the columns `settled_at` and `requested_at`.
    """
    while True:
        try:
            now = ledger.now()
            expired = await _in_batches(ledger.expire, now - keep, timing.retention_batch)
            forgotten = await _in_batches(ledger.forget, now - remember, timing.retention_batch)
            if expired or forgotten:
                log.info("%s duplications expired, %s were deleted", expired, forgotten)
        except LedgerUnavailable as failure:
            ledger_failed(ledger.health, failure)
        await asyncio.sleep(timing.retention_interval)


async def _in_batches(
    purge: Callable[[datetime, int], Awaitable[int]], before: datetime, size: int
) -> int:
    total = 0
    while (done := await purge(before, size)) > 0:
        total += done
        await asyncio.sleep(PAUSE_SECONDS)
    return total
