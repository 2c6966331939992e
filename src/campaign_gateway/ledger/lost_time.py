"""The time that a restored ledger has lost: its copy is older than the last record."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from campaign_gateway.ledger import rows, sql
from campaign_gateway.ledger.engine import Engine, LedgerUnavailable
from campaign_gateway.model import LostTime


async def read_lost_times(engine: Engine, *, as_operator: bool) -> Sequence[LostTime]:
    """Raises `LedgerUnavailable` if a gateway must not serve from this copy yet."""
    lost_times = []
    for row in await engine.read(sql.LOST_TIMES, {}):
        began_at = rows.from_micros(row["began_at"])
        if row["ended_at"] is not None:
            ended_at, refused_until = map(rows.from_micros, (row["ended_at"], row["refused_until"]))
            lost_times.append(LostTime(began_at, ended_at, refused_until))
        elif not as_operator:
            raise LedgerUnavailable(
                f"the ledger is a copy that was made at {began_at:%Y-%m-%d %H:%M:%S}Z, without the "
                "keys that were used since. Run `campaign-gateway ledger restored`, which makes "
                "the gateway refuse those keys"
            )
    return lost_times


async def declare_restored(engine: Engine, refuse_for: timedelta) -> LostTime:
    """Record that this ledger was restored from a copy. Raises `LedgerUnavailable`."""
    # A gateway that runs would send the keys that were lost.
    if await engine.count_others():
        raise LedgerUnavailable(
            "a gateway uses this database, or did so in the last seconds. Stop all of its gateways "
            "and try again after 15 seconds"
        )
    now = engine.now()
    values = {"now": rows.to_micros(now), "refused_until": rows.to_micros(now + refuse_for)}
    declared = await engine.write(sql.DECLARE_COPY, values)
    declared = declared or await engine.write(sql.DECLARE_UNMARKED, values)
    began_at = min(row["began_at"] for row in declared)
    return LostTime(rows.from_micros(began_at), now, now + refuse_for)


async def accept_all_keys(engine: Engine) -> bool:
    """End the refusal of keys. Return whether there was one. Raises `LedgerUnavailable`."""
    return bool(await engine.write(sql.ACCEPT_KEYS, {"now": rows.to_micros(engine.now())}))


def warning(lost: LostTime) -> str:
    """Return what an operator has to know while keys are refused."""
    return (
        f"the ledger was restored and has no records from {_utc(lost.began_at)} to "
        f"{_utc(lost.ended_at)}. Until {_utc(lost.refused_until)}, new keys are accepted only if "
        f"they are UUIDs of version 7 that were made after {_utc(lost.ended_at)}"
    )


def _utc(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
