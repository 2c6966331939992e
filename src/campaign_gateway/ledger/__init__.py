"""The ledger: durable records of duplications."""

from pathlib import Path

from campaign_gateway.ledger.call_limits import CallLimits
from campaign_gateway.ledger.engine import Engine
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.ledger.ledger import Ledger
from campaign_gateway.ledger.sqlite import SqliteEngine
from campaign_gateway.model import DEFAULT_TIMING, Timing
from campaign_gateway.observe.health import ledger_health

__all__ = ["Ledger", "open_ledger"]


async def open_ledger(
    url: str, *, as_operator: bool = False, timing: Timing = DEFAULT_TIMING
) -> Ledger:
    """Open the ledger at a URL that the settings have checked. Raises `LedgerUnavailable`.

    With `as_operator`, the ledger is opened for reads and manual resolutions while gateways use it.
    Migrations and the takeover of abandoned attempts are left to the gateways.
    """
    owner = new_id()
    engine: Engine
    call_limits = None
    if url.startswith("sqlite:"):
        engine = SqliteEngine(Path(url.removeprefix("sqlite:///")), owner, as_operator=as_operator)
    else:
        from campaign_gateway.ledger.postgres import PostgresEngine  # noqa: PLC0415 - an extra

        engine = await PostgresEngine.open(url, owner, timing, as_operator=as_operator)
        call_limits = CallLimits(engine, owner)
    health = ledger_health(engine.kind, timing.problem_over_after)
    return Ledger(engine, owner, health, call_limits)
