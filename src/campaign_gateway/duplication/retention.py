"""Keeps the ledger from growing for ever, without letting a used key be sent again soon."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import LedgerUnavailable

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0

# Small, so that calls under way hardly notice.
BATCH = 500
PAUSE_SECONDS = 0.05


async def retain(ledger: Ledger, keep: timedelta, remember: timedelta) -> None:
    """Shrink what was settled `keep` ago, delete what was requested `remember` ago, for ever."""
    while True:
        try:
            now = ledger.now()
            expired = await _in_batches(ledger.expire, now - keep)
            forgotten = await _in_batches(ledger.forget, now - remember)
            if expired or forgotten:
                log.info("%s duplications expired, %s were forgotten", expired, forgotten)
        except LedgerUnavailable as failure:
            log.error("the ledger cannot be used: %s", failure)
        await asyncio.sleep(EVERY_SECONDS)


async def _in_batches(purge: Callable[[datetime, int], Awaitable[int]], before: datetime) -> int:
    total = 0
    while (done := await purge(before, BATCH)) > 0:
        total += done
        await asyncio.sleep(PAUSE_SECONDS)
    return total
