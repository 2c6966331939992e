"""Shows in the metrics whether the ledger can be written, and what it has that is not settled."""

import asyncio
from contextlib import suppress

from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.ledger import Ledger
from campaign_gateway.observe.metrics import LEDGER_WRITABLE
from campaign_gateway.observe.state import show_free_bytes, show_unsettled


async def monitor(ledger: Ledger, interval: float) -> None:
    """Look into the ledger every `interval` seconds, for ever."""
    while True:
        try:
            await ledger.check()
            LEDGER_WRITABLE.set(1)
        except LedgerUnavailable:
            LEDGER_WRITABLE.set(0)
        show_free_bytes(ledger.engine.free_bytes())
        # If it fails, the ages of the last look continue to grow. The engine counts the failure.
        with suppress(LedgerUnavailable):
            show_unsettled(await ledger.unsettled(), ledger.now())
        await asyncio.sleep(interval)
