"""Reads at the provider: one campaign, or those that are like a copy."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connector import (
    FindsCopies,
    ProviderRequest,
    ProviderResponse,
    ReadsCampaigns,
    SearchPage,
    UnreadableAnswer,
)
from campaign_gateway.ledger.contract import Duplication, Intent
from campaign_gateway.outcomes import Campaign, Refused
from campaign_gateway.transport import NoAnswer, parsed

PAGES_A_SEARCH = 3
LOOKUPS_AT_ONCE = 8


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
    return await parsed(response, connector.read_lookup, response, campaign_id)


async def look_up_all(
    account: Account, near: Mapping[str, Any]
) -> Mapping[str, Campaign | Refused | NoAnswer | UnreadableAnswer | None]:
    """As `look_up`, for each of the ids, in as few reads as the provider allows."""
    found: dict[str, Any] = await _listed_in_full(account, near)
    turns = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def one(campaign_id: str) -> None:
        async with turns:
            try:
                found[campaign_id] = await look_up(account, campaign_id, near[campaign_id])
            except (Refused, NoAnswer, UnreadableAnswer) as failure:
                found[campaign_id] = failure

    await asyncio.gather(*(one(each) for each in near.keys() - found.keys()))
    return found


async def _listed_in_full(account: Account, near: Mapping[str, Any]) -> dict[str, Campaign]:
    """Those of the campaigns that stand in a list with another one of them."""
    connector = account.connector
    if not isinstance(connector, FindsCopies) or not connector.lists_in_full:
        return {}
    lists: dict[tuple[str, bytes], tuple[ProviderRequest, set[str]]] = {}
    for campaign_id, campaign in near.items():
        if campaign is not None:
            request = connector.build_search(campaign, None)
            # Some providers are told in the body which campaigns to list.
            place = (request.url, request.body)
            lists.setdefault(place, (request, set()))[1].add(campaign_id)
    found: dict[str, Campaign] = {}
    for request, wanted in lists.values():
        if len(wanted) > 1:
            with suppress(NoAnswer, Refused, UnreadableAnswer):
                response = await account.transport.read(request)
                is_wanted = partial(_is_one_of, wanted)
                page = await parsed(response, _read_page, connector, response, None, is_wanted)
                found |= {each.id: each for each in page.campaigns}
    return found


def _read_page(
    connector: FindsCopies[Any],
    response: ProviderResponse,
    cursor: str | None,
    is_wanted: Callable[[Campaign], bool],
) -> SearchPage:
    """The wanted campaigns of a page. Raises `UnreadableAnswer`."""
    page = connector.read_search(response, cursor)
    return replace(page, campaigns=[each for each in page.campaigns if is_wanted(each)])


def _is_one_of(ids: Collection[str], campaign: Campaign) -> bool:
    return campaign.id in ids


def is_called(campaign: Campaign, name: str) -> bool:
    """A provider may trim what it is given."""
    return campaign.name is not None and campaign.name.strip() == name.strip()


def is_like_copy(campaign: Campaign, intent: Intent) -> bool:
    """By what it was copied from, where its provider tells that, or else by its name."""
    if campaign.copied_from is not None:
        return campaign.copied_from == intent.source_campaign_id
    return intent.requested_name is not None and is_called(campaign, intent.requested_name)


@dataclass(frozen=True, slots=True)
class Listed:
    """Campaigns that are like a copy. `is_whole` says that the provider's list was read to its end.

    `ahead` is by how much the provider's clock is ahead of ours at most.
    """

    campaigns: Sequence[Campaign]
    is_whole: bool
    ahead: timedelta


async def like_copy(
    account: Account, campaign: Any, intent: Intent, now: Callable[[], datetime]
) -> Listed:
    """The campaigns that are like the copy of that input, as the provider lists them near it.

    `now` tells the time by the clock that the provider's is compared with. Raises `NoAnswer` and
    `UnreadableAnswer`.
    """
    connector = account.connector
    if not isinstance(connector, FindsCopies):
        raise UnreadableAnswer(f"{connector.title} has no call that lists campaigns")
    found: list[Campaign] = []
    cursor: str | None = None
    ahead = timedelta(0)
    is_alike = partial(is_like_copy, intent=intent)
    for _ in range(PAGES_A_SEARCH):
        asked_at = now()
        response = await account.transport.read(connector.build_search(campaign, cursor))
        ahead = _ahead(response, asked_at)
        page = await parsed(response, _read_page, connector, response, cursor, is_alike)
        found += page.campaigns
        cursor = page.next_cursor
        if cursor is None:
            break
    return Listed(found, is_whole=cursor is None, ahead=ahead)


def _ahead(response: ProviderResponse, asked_at: datetime) -> timedelta:
    """By the header `Date`, which is to the second; without one the clocks are taken to agree.

    The provider wrote it when we had asked, or later. Taken for earlier than it was, it could make
    an older campaign look like one that was made after our request.
    """
    try:
        told = parsedate_to_datetime(response.headers.get("date", ""))
        # A cache repeats an old `Date`, and says in `Age` how old it is.
        age = int(response.headers.get("age", 0))
        return told + timedelta(seconds=age + 1) - asked_at
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)


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
