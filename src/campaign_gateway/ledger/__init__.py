"""The durable store of duplications."""

from pathlib import Path

from campaign_gateway.ledger.contract import Ledger
from campaign_gateway.ledger.sqlite import SqliteLedger


def open_ledger(url: str) -> Ledger:
    """Open the ledger at a URL that the settings have checked. Raises `LedgerUnavailable`."""
    return SqliteLedger(Path(url.removeprefix("sqlite:///")))
