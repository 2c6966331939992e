"""Reads campaigns at the provider by their ids."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.accounts.transport.rate_limit import CallKind, Permit
from campaign_gateway.accounts.transport.worker import run_parser
from campaign_gateway.connectors.contract import (
    CopyInput,
    ListsAssetTypes,
    ListsCampaigns,
    ProviderRequest,
    ProviderResponse,
    ReadsCampaigns,
    SearchPage,
    UnexpectedResponse,
)
from campaign_gateway.model import Campaign, Refused
from campaign_gateway.observe.events import ProviderCall

# For each campaign the input of a duplication that it was the source or the copy of, if any.
RelatedInputs = Mapping[str, CopyInput | None]


async def look_up(
    account: Account, permit: Permit, campaign_id: str, related_input: CopyInput | None
) -> Campaign | None:
    """Return a campaign as the provider describes it now, or None if it does not exist.

    Raises `Refused`, `NoResponse` and `UnexpectedResponse`.
    """
    connector = account.connector
    if not isinstance(connector, ReadsCampaigns):
        raise UnexpectedResponse(f"{connector.title} has no call that reads one campaign")
    request = connector.build_lookup(campaign_id, related_input)
    response = await account.transport.send_idempotent(request, permit, ProviderCall.LOOKUP)
    return await run_parser(response, connector.parse_lookup, response, campaign_id)


async def look_up_all(
    account: Account, related_inputs: RelatedInputs, ends_at: float
) -> Mapping[str, Campaign | Refused | NoResponse | UnexpectedResponse | None]:
    """Look up each of the ids like `look_up`, in as few calls as the provider allows.

    All reads end at `ends_at`, a time of the loop's clock.
    """
    results: dict[str, Any] = await _look_up_in_lists(account, related_inputs, ends_at)

    async def look_up_one(campaign_id: str) -> None:
        try:
            async with _permit_to_read(account, ends_at) as permit:
                results[campaign_id] = await look_up(
                    account, permit, campaign_id, related_inputs[campaign_id]
                )
        except (Refused, NoResponse, UnexpectedResponse) as failure:
            results[campaign_id] = failure

    await asyncio.gather(*map(look_up_one, related_inputs.keys() - results.keys()))
    return results


async def read_asset_types(account: Account, ends_at: float) -> Sequence[str]:
    """Return the types of assets that the provider copies with a campaign; none if it lists none.

    Raises `Refused`, `NoResponse` and `UnexpectedResponse`.
    """
    connector = account.connector
    if not isinstance(connector, ListsAssetTypes):
        return ()
    async with _permit_to_read(account, ends_at) as permit:
        request = connector.build_asset_types()
        response = await account.transport.send_idempotent(request, permit, ProviderCall.LOOKUP)
        return await run_parser(response, connector.parse_asset_types, response)


@asynccontextmanager
async def _permit_to_read(account: Account, ends_at: float) -> AsyncIterator[Permit]:
    """Raises `Refused` without a permit by `ends_at`, and `NoResponse` after it."""
    timeout = ends_at - asyncio.get_running_loop().time()
    if timeout <= 0:
        raise NoResponse("timeout")
    async with account.rate_limiter.acquire(CallKind.READ, timeout) as permit:
        try:
            async with asyncio.timeout_at(ends_at):
                yield permit
        except TimeoutError:
            raise NoResponse("timeout") from None


async def _look_up_in_lists(
    account: Account, related_inputs: RelatedInputs, ends_at: float
) -> dict[str, Campaign | Refused | NoResponse]:
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
    results: dict[str, Campaign | Refused | NoResponse] = {}
    for request, wanted in lists.values():
        if len(wanted) < 2:
            continue
        try:
            async with _permit_to_read(account, ends_at) as permit:
                response = await account.transport.send_idempotent(
                    request, permit, ProviderCall.SEARCH
                )
            is_wanted = partial(_is_one_of, wanted)
            page = await run_parser(response, parse_page, connector, response, None, is_wanted)
            results |= {campaign.id: campaign for campaign in page.campaigns}
        except (Refused, NoResponse) as failure:
            # A lookup of each of them would fail like this, too.
            results |= dict.fromkeys(wanted, failure)
        except UnexpectedResponse:
            continue
    return results


def parse_page(
    connector: ListsCampaigns[Any],
    response: ProviderResponse,
    cursor: str | None,
    is_wanted: Callable[[Campaign], bool],
    until: datetime | None = None,
) -> SearchPage:
    """Return the wanted campaigns of a page. Raises `UnexpectedResponse`.

    If `until` is given, the list has the newest campaigns first, and a page with an older one than
    that is the last one.
    """
    page = connector.parse_search(response, cursor)
    times = [item.created_at for item in page.campaigns if item.created_at is not None]
    is_last = until is not None and bool(times) and min(times) < until
    return replace(
        page,
        campaigns=[item for item in page.campaigns if is_wanted(item)],
        next_cursor=None if is_last else page.next_cursor,
    )


def _is_one_of(ids: Collection[str], campaign: Campaign) -> bool:
    return campaign.id in ids
