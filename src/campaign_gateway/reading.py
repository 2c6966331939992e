"""Reads at the provider: one campaign, or those that have a name."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connector import (
    FindsCopies,
    ProviderResponse,
    ReadsCampaigns,
    UnreadableAnswer,
)
from campaign_gateway.ledger.contract import Duplication
from campaign_gateway.outcomes import Campaign

PAGES_A_SEARCH = 3

MOST_AHEAD = timedelta(hours=1)


def input_of(account: Account, duplication: Duplication) -> Any:
    """The provider's input as it was recorded."""
    return account.connector.Input(**json.loads(duplication.intent.input))


async def look_up(account: Account, campaign_id: str, near: Any) -> Campaign | None:
    """One campaign as the provider describes it now, or None when it has no such campaign.

    Raises `Refused`, `NoAnswer` and `UnreadableAnswer`.
    """
    connector = account.connector
    if not isinstance(connector, ReadsCampaigns):
        raise UnreadableAnswer(f"{connector.title} has no call that reads one campaign")
    response = await account.transport.read(connector.build_lookup(campaign_id, near))
    return connector.read_lookup(response, campaign_id)


@dataclass(frozen=True, slots=True)
class Listed:
    """Campaigns of one name. `is_whole` says that the provider's list was read to its end.

    `ahead` is by how much the provider's clock is ahead of ours.
    """

    campaigns: Sequence[Campaign]
    is_whole: bool
    ahead: timedelta


async def called(account: Account, campaign: Any, name: str) -> Listed:
    """The campaigns of that name, as the provider lists them near the copy of that input.

    Raises `NoAnswer` and `UnreadableAnswer`.
    """
    connector = account.connector
    if not isinstance(connector, FindsCopies):
        raise UnreadableAnswer(f"{connector.title} has no call that lists campaigns")
    found: list[Campaign] = []
    cursor: str | None = None
    ahead = timedelta(0)
    for _ in range(PAGES_A_SEARCH):
        response = await account.transport.read(connector.build_search(campaign, cursor))
        ahead = _ahead(response, datetime.now(UTC))
        page = connector.read_search(response, cursor)
        found += page.campaigns
        cursor = page.next_cursor
        if cursor is None:
            break
    # A provider may trim what it is given.
    alike = [each for each in found if each.name is not None and each.name.strip() == name.strip()]
    return Listed(alike, is_whole=cursor is None, ahead=ahead)


def _ahead(response: ProviderResponse, now: datetime) -> timedelta:
    """By the header `Date`, which is to the second; one that is far off says nothing."""
    try:
        told = parsedate_to_datetime(response.headers.get("date", ""))
        ahead = told - now
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)
    return ahead if abs(ahead) < MOST_AHEAD else timedelta(0)


async def in_full(account: Account, campaign: Any, listed: Campaign) -> Campaign | None:
    """The campaign with the time it was made, which some lists leave out and a lookup has."""
    connector = account.connector
    needs_lookup = (
        listed.created_at is None
        and isinstance(connector, FindsCopies)
        and connector.tells_creation
        and isinstance(connector, ReadsCampaigns)
    )
    return await look_up(account, listed.id, campaign) if needs_lookup else listed
