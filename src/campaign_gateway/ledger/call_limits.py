"""What the gateways at one PostgreSQL share of the limits of their accounts.

This room stores it, and does not know what it means.
"""

from collections.abc import Mapping

from campaign_gateway.ledger.engine import Engine, LedgerUnavailable

LOAD = """
SELECT
    coalesce(state, '{}') AS state,
    coalesce(version, 0) AS version,
    CAST(extract(epoch FROM clock_timestamp()) AS double precision) AS now
FROM (SELECT 1) AS always LEFT JOIN call_limit ON account = :account
"""

# A statement that is repeated after a lost connection finds another version, and changes nothing.
STORE = """
INSERT INTO call_limit (account, state, version) VALUES (:account, :state, 1)
ON CONFLICT (account) DO UPDATE SET state = excluded.state, version = call_limit.version + 1
WHERE call_limit.version = :version
RETURNING version
"""

PAUSE = """
INSERT INTO call_limit (account, paused_until)
VALUES (:account, clock_timestamp() + make_interval(secs => :seconds))
ON CONFLICT (account) DO UPDATE
SET paused_until = greatest(call_limit.paused_until, excluded.paused_until)
RETURNING account
"""

# A pause of more than ten minutes can only come from a clock that was set back.
PAUSES = """
SELECT
    account,
    CAST(extract(epoch FROM paused_until - clock_timestamp()) AS double precision) AS seconds
FROM call_limit
WHERE paused_until BETWEEN clock_timestamp() AND clock_timestamp() + interval '10 minutes'
"""


class CallLimits:
    """One text for each account, with a version, and a time until which its calls are paused.

    Times are of the database's clock. A method returns None if the database is unavailable.
    """

    def __init__(self, engine: Engine, gateway: str) -> None:
        self.gateway = gateway
        self._engine = engine

    async def load(self, account: str) -> tuple[str, int, float] | None:
        """Return the text, its version, and the seconds of the database's clock."""
        try:
            (row,) = await self._engine.read(LOAD, {"account": account})
        except LedgerUnavailable:
            return None
        return row["state"], row["version"], row["now"]

    async def store(self, account: str, state: str, version: int) -> bool | None:
        """Replace the text, unless another gateway has replaced it since this version."""
        values = {"account": account, "state": state, "version": version}
        try:
            return bool(await self._engine.write(STORE, values))
        except LedgerUnavailable:
            return None

    async def pause(self, account: str, seconds: float) -> None:
        """Pause an account for this long, unless it is paused for longer."""
        try:
            await self._engine.write(PAUSE, {"account": account, "seconds": seconds})
        except LedgerUnavailable:
            return

    async def pauses(self) -> Mapping[str, float] | None:
        """Return for how many more seconds which accounts are paused."""
        try:
            paused = await self._engine.read(PAUSES, {})
        except LedgerUnavailable:
            return None
        return {row["account"]: row["seconds"] for row in paused}
