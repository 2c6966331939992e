"""Reads campaigns at the provider by their ids."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connectors.contract import (
    ListsCampaigns,
    ProviderRequest,
    ProviderResponse,
    ReadsCampaigns,
    SearchPage,
    UnexpectedResponse,
)
from campaign_gateway.model import Campaign, Duplication, Refused
from campaign_gateway.transport.errors import NoResponse
from campaign_gateway.transport.worker import parsed

LOOKUPS_AT_ONCE = 8


def load_input(account: Account, duplication: Duplication) -> Any:
    """The provider's input as it was recorded."""
    return account.connector.Input(**json.loads(duplication.intent.input))


async def look_up(account: Account, campaign_id: str, related_inputs: Any) -> Campaign | None:
    """One campaign as the provider describes it now, or None when it has no such campaign.

    Raises `Refused`, `NoResponse` and `UnexpectedResponse`.
    """
    connector = account.connector
    if not isinstance(connector, ReadsCampaigns):
        raise UnexpectedResponse(f"{connector.title} has no call that reads one campaign")
    response = await account.transport.send_idempotent(
        connector.build_lookup(campaign_id, related_inputs)
    )
    return await parsed(response, connector.parse_lookup, response, campaign_id)


async def look_up_all(
    account: Account, related_inputs: Mapping[str, Any]
) -> Mapping[str, Campaign | Refused | NoResponse | UnexpectedResponse | None]:
    """As `look_up`, for each of the ids, in as few reads as the provider allows."""
    found: dict[str, Any] = await _listed_in_full(account, related_inputs)
    turns = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def one(campaign_id: str) -> None:
        async with turns:
            try:
                found[campaign_id] = await look_up(
                    account, campaign_id, related_inputs[campaign_id]
                )
            except (Refused, NoResponse, UnexpectedResponse) as failure:
                found[campaign_id] = failure

    await asyncio.gather(*(one(each) for each in related_inputs.keys() - found.keys()))
    return found


async def _listed_in_full(
    account: Account, related_inputs: Mapping[str, Any]
) -> dict[str, Campaign]:
    """Those of the campaigns that stand in a list with another one of them."""
    connector = account.connector
    if not isinstance(connector, ListsCampaigns) or not connector.list_has_all_fields:
        return {}
    lists: dict[tuple[str, bytes], tuple[ProviderRequest, set[str]]] = {}
    for campaign_id, campaign in related_inputs.items():
        if campaign is not None:
            request = connector.build_search(campaign, None)
            # Some providers are told in the body which campaigns to list.
            place = (request.url, request.body)
            lists.setdefault(place, (request, set()))[1].add(campaign_id)
    found: dict[str, Campaign] = {}
    for request, wanted in lists.values():
        if len(wanted) > 1:
            with suppress(NoResponse, Refused, UnexpectedResponse):
                response = await account.transport.send_idempotent(request)
                is_wanted = partial(_is_one_of, wanted)
                page = await parsed(response, parse_page, connector, response, None, is_wanted)
                found |= {each.id: each for each in page.campaigns}
    return found


def parse_page(
    connector: ListsCampaigns[Any],
    response: ProviderResponse,
    cursor: str | None,
    is_wanted: Callable[[Campaign], bool],
) -> SearchPage:
    """The wanted campaigns of a page. Raises `UnexpectedResponse`."""
    page = connector.parse_search(response, cursor)
    return replace(page, campaigns=[each for each in page.campaigns if is_wanted(each)])


def _is_one_of(ids: Collection[str], campaign: Campaign) -> bool:
    return campaign.id in ids
