"""Removes old records, so that the ledger does not grow for ever. Used keys stay for longer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from time import monotonic

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.model import Timing
from campaign_gateway.observe.events import ledger_failed
from campaign_gateway.observe.health import counted

log = logging.getLogger(__name__)

# Between two batches, for the statements of other calls.
PAUSE_SECONDS = 0.05

# A clock that has jumped by more than this many seconds may be wrong.
LARGE_JUMP = 3600


async def retain(ledger: Ledger, keep: timedelta, remember: timedelta, timing: Timing) -> None:
    """Shrink what was settled `keep` ago and delete what was requested `remember` ago, for ever.

    Both times are by the ledger's clock, in the columns `settled_at` and `requested_at`. A clock
    that is months ahead for a moment would delete keys that callers still use. So nothing is
    removed until the clock has run for `timing.retention_delay` seconds without a large jump.
    """
    delay = min(timing.retention_delay, keep.total_seconds())
    offset, begins_at = _offset(ledger), monotonic() + delay
    while True:
        if abs(_offset(ledger) - offset) > LARGE_JUMP:
            offset, begins_at = _offset(ledger), monotonic() + delay
            log.warning(
                "the clock of the ledger has jumped, and is now %s. If it is wrong, set it: in "
                "%.0f minutes the gateway removes what is old by it",
                f"{ledger.now():%Y-%m-%d %H:%M}Z",
                delay / 60,
            )
        pause = begins_at - monotonic()
        if pause <= 0:
            await _remove_old(ledger, keep, remember, timing.retention_batch)
            pause = timing.retention_interval
        await asyncio.sleep(min(pause, timing.retention_interval))


def _offset(ledger: Ledger) -> float:
    return ledger.now().timestamp() - monotonic()


async def _remove_old(ledger: Ledger, keep: timedelta, remember: timedelta, batch: int) -> None:
    try:
        now = ledger.now()
        expired = await _in_batches(ledger.expire, now - keep, batch)
        forgotten = await _in_batches(ledger.forget, now - remember, batch)
        if expired or forgotten:
            log.info("%s expired, %s deleted", counted(expired, "duplication"), forgotten)
    except LedgerUnavailable as failure:
        ledger_failed(ledger.health, failure)


async def _in_batches(
    purge: Callable[[datetime, int], Awaitable[int]], before: datetime, size: int
) -> int:
    total = 0
    while (done := await purge(before, size)) > 0:
        total += done
        await asyncio.sleep(PAUSE_SECONDS)
    return total
