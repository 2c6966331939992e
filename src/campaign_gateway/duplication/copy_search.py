"""Reads at the provider: one campaign, or those that are like a copy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connectors.contract import (
    ListsCampaigns,
    ProviderResponse,
    ReadsCampaigns,
    UnexpectedResponse,
    copy_search_key,
)
from campaign_gateway.duplication.campaign_reads import load_input, look_up, parse_page
from campaign_gateway.ledger import Ledger
from campaign_gateway.model import (
    Campaign,
    Duplication,
    DuplicationStatus,
    Intent,
)
from campaign_gateway.transport.worker import parsed

PAGES_A_SEARCH = 3


def has_name(campaign: Campaign, name: str) -> bool:
    """A provider may trim what it is given."""
    return campaign.name is not None and campaign.name.strip() == name.strip()


def matches_copy(campaign: Campaign, intent: Intent) -> bool:
    """By what it was copied from, where its provider tells that, or else by its name."""
    if campaign.copied_from is not None:
        return campaign.copied_from == intent.source_campaign_id
    return intent.requested_name is not None and has_name(campaign, intent.requested_name)


@dataclass(frozen=True, slots=True)
class Listed:
    """Campaigns that are like a copy. `is_complete` says that the provider's list was read to its end.

    `clock_offset` is by how much the provider's clock is ahead of ours at most.
    """

    campaigns: Sequence[Campaign]
    is_complete: bool
    clock_offset: timedelta


async def search_copies(
    account: Account, campaign: Any, intent: Intent, now: Callable[[], datetime]
) -> Listed:
    """The campaigns that are like the copy of that input, as the provider lists them near it.

    `now` tells the time by the clock that the provider's is compared with. Raises `NoResponse` and
    `UnexpectedResponse`.
    """
    connector = account.connector
    if not isinstance(connector, ListsCampaigns):
        raise UnexpectedResponse(f"{connector.title} has no call that lists campaigns")
    found: list[Campaign] = []
    cursor: str | None = None
    ahead = timedelta(0)
    is_alike = partial(matches_copy, intent=intent)
    for _ in range(PAGES_A_SEARCH):
        asked_at = now()
        response = await account.transport.send_idempotent(connector.build_search(campaign, cursor))
        ahead = _ahead(response, asked_at)
        page = await parsed(response, parse_page, connector, response, cursor, is_alike)
        found += page.campaigns
        cursor = page.next_cursor
        if cursor is None:
            break
    return Listed(found, is_complete=cursor is None, clock_offset=ahead)


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


async def with_creation_time(account: Account, campaign: Any, listed: Campaign) -> Campaign | None:
    """The campaign with the time it was made, which some lists leave out and a lookup has."""
    connector = account.connector
    needs_lookup = (
        listed.created_at is None
        and isinstance(connector, ListsCampaigns)
        and connector.reports_creation_time
        and isinstance(connector, ReadsCampaigns)
    )
    return await look_up(account, listed.id, campaign) if needs_lookup else listed


# A copy is taken for ours when it was made in this interval around the request, by the ledger's
# clock. The start allows for times that are told to the second and for three seconds until the
# provider answers; the end for copies that are made late.
EARLIEST_COPY = timedelta(seconds=-5)

LATEST_COPY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check comes to: the copy, or the campaigns that it could not choose from."""

    copy: Campaign | None = None
    candidates: Sequence[Campaign] = ()


async def _find_copy(account: Account, ledger: Ledger, duplication: Duplication) -> Finding:
    known_by = copy_search_key(account.connector)
    if known_by is None or (known_by == "name" and duplication.intent.requested_name is None):
        return Finding()
    campaign = load_input(account, duplication)
    listed = await search_copies(account, campaign, duplication.intent, ledger.now)
    found = [
        _Candidate(campaign_in_full, listed.clock_offset, ledger.now())
        for each in listed.campaigns
        if each.id != duplication.intent.source_campaign_id
        and (campaign_in_full := await with_creation_time(account, campaign, each))
    ]
    candidates = [each for each in found if each.may_be_copy_of(duplication)]
    # In this order: whoever settles in between is then either still a rival or has its claim seen.
    competing = await ledger.competing(duplication)
    ids = [each.campaign.id for each in candidates]
    known = await ledger.known_copies(duplication.intent.id_namespace, ids)
    free = [each for each in candidates if each.campaign.id not in known]
    copy = _assign(duplication, competing, free)
    return Finding(copy) if copy else Finding(candidates=tuple(each.campaign for each in free))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A campaign that is like a copy, read at the time `read_at`.

    `clock_offset` is how far its provider's clock is ahead of the ledger's at most.
    """

    campaign: Campaign
    clock_offset: timedelta
    read_at: datetime

    def may_be_copy_of(self, duplication: Duplication) -> bool:
        """Like it, and made in the time of the call, or first seen after it where none is told."""
        if not matches_copy(self.campaign, duplication.intent):
            return False
        requested_at, preexisting_ids = duplication.requested_at, duplication.intent.preexisting_ids
        if self.campaign.created_at is not None:
            made_after = self.campaign.created_at - self.clock_offset - requested_at
            return EARLIEST_COPY <= made_after <= LATEST_COPY
        if preexisting_ids is None or self.read_at - requested_at > LATEST_COPY:
            return False
        return self.campaign.id not in preexisting_ids

    def age_key(self) -> tuple[datetime, int, str]:
        """Where no time is told, ids are numbers that grow."""
        made_at = self.campaign.created_at or datetime.max.replace(tzinfo=UTC)
        return made_at, len(self.campaign.id), self.campaign.id


def _assign(
    duplication: Duplication, competing: Sequence[Duplication], candidates: Sequence[_Candidate]
) -> Campaign | None:
    """The copy that is this duplication's and can be no rival's.

    Whoever waits for one that is like it, and could be its owner, is a rival. Equal intents can be
    dealt equal copies, in order of age: as many as there are intents, or else as many as the
    provider has said yes to.
    """
    competing = [
        each for each in competing if any(copy.may_be_copy_of(each) for copy in candidates)
    ]
    if len({each.intent.fingerprint for each in competing}) != 1:
        return None
    promised = [each for each in competing if each.status is not DuplicationStatus.UNKNOWN]
    age_key = sorted(candidates, key=_Candidate.age_key)
    for owners in (competing, promised):
        if duplication in owners and len(owners) == len(candidates):
            return age_key[owners.index(duplication)].campaign
    return None
