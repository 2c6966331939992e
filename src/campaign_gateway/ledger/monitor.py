"""Shows in the metrics whether the ledger can be written, and what it has that is not settled."""

import asyncio
import logging

from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.ledger import Ledger
from campaign_gateway.observe.metrics import LEDGER_WRITABLE
from campaign_gateway.observe.state import show_unsettled

log = logging.getLogger(__name__)


async def monitor(ledger: Ledger, interval: float) -> None:
    """Look into the ledger every `interval` seconds, for ever."""
    while True:
        await look(ledger)
        await asyncio.sleep(interval)


async def look(ledger: Ledger) -> None:
    """Renew the metrics of the ledger. If it is unavailable, those of the last look remain."""
    try:
        await ledger.check()
        LEDGER_WRITABLE.set(1)
    except LedgerUnavailable:
        LEDGER_WRITABLE.set(0)
    try:
        show_unsettled(await ledger.unsettled(), ledger.now())
    except LedgerUnavailable as failure:
        log.error("the ledger cannot be used: %s", failure)
