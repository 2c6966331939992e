"""What may have happened in a time whose records a restored ledger does not have.

A copy of that time has no record, so its key looks new, and its campaign seems to have no owner.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from campaign_gateway.duplication.errors import KEY_LOST
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.ids import time_of
from campaign_gateway.model import Campaign, LostTime, Refused

# By how much the clock of a client may be ahead. A later time in a key is no time.
LATEST_KEY = timedelta(days=1)

# Providers round times down to seconds, and `clock_offset` is a maximum. So a campaign may be
# so much younger than it seems; it is not older.
SEEMS_OLDER = timedelta(seconds=5)


def refuse_lost_key(ledger: Ledger, key: str) -> None:
    """Raises `Refused` if a key without a record may have been used in a lost time."""
    if not ledger.lost_times:
        return
    now, made_at = ledger.now(), time_of(key)
    is_known = made_at is not None and made_at - now <= LATEST_KEY
    for lost in ledger.lost_times:
        is_lost = made_at < lost.ended_at if is_known and made_at else now < lost.refused_until
        if is_lost:
            raise Refused(KEY_LOST)


def may_be_lost_copy(
    campaign: Campaign,
    clock_offset: timedelta,
    requested_at: datetime,
    lost_times: Sequence[LostTime],
) -> bool:
    """Return whether a campaign may be the copy of a request whose record is lost.

    `clock_offset` is the maximum by which the provider's clock is ahead of the ledger's. Without a
    creation time, a campaign that is new since `requested_at` may be of any later time.
    """
    if campaign.created_at is None:
        return any(requested_at < lost.ended_at for lost in lost_times)
    created_at = campaign.created_at - clock_offset
    return any(lost.began_at - SEEMS_OLDER <= created_at <= lost.ended_at for lost in lost_times)
