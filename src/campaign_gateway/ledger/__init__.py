"""The ledger: durable records of duplications."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from campaign_gateway.ledger.call_limits import CallLimits
from campaign_gateway.ledger.engine import Engine, LedgerUnavailable
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.ledger.ledger import Ledger
from campaign_gateway.ledger.lost_time import declare_restored, read_lost_times
from campaign_gateway.ledger.sqlite import SqliteEngine
from campaign_gateway.model import DEFAULT_TIMING, LostTime, Timing
from campaign_gateway.observe.health import ledger_health

__all__ = ["Ledger", "declare_ledger_restored", "open_ledger"]


async def open_ledger(
    url: str,
    *,
    as_operator: bool = False,
    timing: Timing = DEFAULT_TIMING,
    packages: Iterable[str] = (),
) -> Ledger:
    """Open the ledger at a URL that the settings have checked. Raises `LedgerUnavailable`.

    With `as_operator`, the ledger is opened for reads and manual resolutions while gateways use it.
    Migrations and the takeover of abandoned attempts are left to the gateways. `packages` are
    those with connectors of this gateway, with their versions. The check of the ledger compares
    them with those of the other gateways.
    """
    owner = new_id()
    names = ", ".join(sorted(set(packages)))
    engine = await _open_engine(url, owner, timing, names, as_operator=as_operator)
    try:
        lost_times = await read_lost_times(engine, as_operator=as_operator)
    except LedgerUnavailable:
        await engine.close()
        raise
    health = ledger_health(engine.kind, timing.problem_over_after)
    # One gateway alone has the whole limit of an account.
    call_limits = None if engine.kind == "sqlite" else CallLimits(engine, owner)
    return Ledger(engine, owner, health, call_limits, lost_times)


async def declare_ledger_restored(url: str, refuse_for: timedelta) -> LostTime:
    """Let gateways serve from a copy. Return the time whose records it does not have.

    For `refuse_for` from now on, keys that do not show when they were made are refused. Raises
    `LedgerUnavailable`, also if a gateway uses the ledger.
    """
    engine = await _open_engine(url, new_id(), DEFAULT_TIMING, "", as_operator=False)
    try:
        return await declare_restored(engine, refuse_for)
    finally:
        await engine.close()


async def _open_engine(
    url: str, owner: str, timing: Timing, packages: str, *, as_operator: bool
) -> Engine:
    if url.startswith("sqlite:"):
        return SqliteEngine(Path(url.removeprefix("sqlite:///")), owner, as_operator=as_operator)
    from campaign_gateway.ledger.postgres import PostgresEngine  # noqa: PLC0415 - an extra

    return await PostgresEngine.open(url, owner, timing, packages, as_operator=as_operator)
