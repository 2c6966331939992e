"""Reads campaigns at the provider by their ids."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connectors.contract import (
    CopyInput,
    ListsCampaigns,
    ProviderRequest,
    ProviderResponse,
    ReadsCampaigns,
    SearchPage,
    UnexpectedResponse,
)
from campaign_gateway.model import Campaign, Refused
from campaign_gateway.transport.errors import NoResponse
from campaign_gateway.transport.worker import run_parser

LOOKUPS_AT_ONCE = 8

# For each campaign the input of a duplication that it was the source or the copy of, if any.
RelatedInputs = Mapping[str, CopyInput | None]


async def look_up(
    account: Account, campaign_id: str, related_input: CopyInput | None
) -> Campaign | None:
    """Return a campaign as the provider describes it now, or None if it does not exist.

    Raises `Refused`, `NoResponse` and `UnexpectedResponse`.
    """
    connector = account.connector
    if not isinstance(connector, ReadsCampaigns):
        raise UnexpectedResponse(f"{connector.title} has no call that reads one campaign")
    request = connector.build_lookup(campaign_id, related_input)
    response = await account.transport.send_idempotent(request)
    return await run_parser(response, connector.parse_lookup, response, campaign_id)


async def look_up_all(
    account: Account, related_inputs: RelatedInputs
) -> Mapping[str, Campaign | Refused | NoResponse | UnexpectedResponse | None]:
    """Look up each of the ids like `look_up`, in as few calls as the provider allows."""
    results: dict[str, Any] = await _look_up_in_lists(account, related_inputs)
    slots = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def look_up_one(campaign_id: str) -> None:
        async with slots:
            try:
                results[campaign_id] = await look_up(
                    account, campaign_id, related_inputs[campaign_id]
                )
            except (Refused, NoResponse, UnexpectedResponse) as failure:
                results[campaign_id] = failure

    await asyncio.gather(*map(look_up_one, related_inputs.keys() - results.keys()))
    return results


async def _look_up_in_lists(account: Account, related_inputs: RelatedInputs) -> dict[str, Campaign]:
    """Return the campaigns that are in one list with another one of them."""
    connector = account.connector
    if not isinstance(connector, ListsCampaigns) or not connector.list_has_all_fields:
        return {}
    lists: dict[tuple[str, bytes], tuple[ProviderRequest, set[str]]] = {}
    for campaign_id, related_input in related_inputs.items():
        if related_input is not None:
            request = connector.build_search(related_input, None)
            # Some providers read from the body which campaigns to list.
            target = (request.url, request.body)
            lists.setdefault(target, (request, set()))[1].add(campaign_id)
    campaigns: dict[str, Campaign] = {}
    for request, wanted in lists.values():
        if len(wanted) > 1:
            with suppress(NoResponse, Refused, UnexpectedResponse):
                response = await account.transport.send_idempotent(request)
                is_wanted = partial(_is_one_of, wanted)
                page = await run_parser(response, parse_page, connector, response, None, is_wanted)
                campaigns |= {campaign.id: campaign for campaign in page.campaigns}
    return campaigns


def parse_page(
    connector: ListsCampaigns[Any],
    response: ProviderResponse,
    cursor: str | None,
    is_wanted: Callable[[Campaign], bool],
) -> SearchPage:
    """Return the wanted campaigns of a page. Raises `UnexpectedResponse`."""
    page = connector.parse_search(response, cursor)
    return replace(page, campaigns=[item for item in page.campaigns if is_wanted(item)])


def _is_one_of(ids: Collection[str], campaign: Campaign) -> bool:
    return campaign.id in ids
