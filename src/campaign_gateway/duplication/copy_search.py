"""The search for a lost copy: which campaigns match, which can be ours, and which one is.

The parts come in this order: search the provider's list, filter the candidates, choose the copy.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.rate_limit import Permit
from campaign_gateway.accounts.transport.worker import run_parser
from campaign_gateway.connectors.contract import (
    ListsCampaigns,
    LostCopy,
    NamesCopies,
    NarrowsSearches,
    ProviderResponse,
    ReadsCampaigns,
    UnexpectedResponse,
    copy_search_key,
    is_named_by_provider,
)
from campaign_gateway.duplication.campaign_reads import look_up, parse_page
from campaign_gateway.duplication.intents import CopyCall, recorded_call
from campaign_gateway.duplication.lost_time import may_be_lost_copy
from campaign_gateway.ledger import Ledger
from campaign_gateway.model import Campaign, Duplication, DuplicationStatus, Intent, is_same_id
from campaign_gateway.observe.events import ProviderCall

PAGES_A_SEARCH = 3

# If the newest come first, the search ends with the first page from before the call.
PAGES_UNTIL_THE_CALL = 10

# Three pages, and a lookup of the copy. A check that begins gets so many turns. For more pages, it
# waits.
CALLS_A_CHECK = PAGES_A_SEARCH + 1

# The gateway takes a campaign for a copy only if it was created in this interval around the
# request, by the ledger's clock. The start allows for times in whole seconds and for three seconds
# until the provider responds. The end allows for copies that are created late.
EARLIEST_COPY = timedelta(seconds=-5)
LATEST_COPY = timedelta(hours=24)

# The name that a provider chooses is also that of a copy that a person makes of the same campaign.
# So such a copy must be from the time of the call. The gateway's calls end earlier.
LATEST_UNNAMED_COPY = timedelta(minutes=10)

# The names of so many sources are read at most, to tell their copies apart.
SOURCES_A_CHECK = 10

# How much earlier than the request the provider's list begins, for clocks that differ.
LIST_MARGIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The copy, or else the campaigns between which the search could not choose."""

    copy: Campaign | None = None
    candidates: Sequence[Campaign] = ()


def can_search(connector: object, intent: Intent) -> bool:
    """Return whether the provider has a list in which the copy can be recognised."""
    search_key = copy_search_key(connector)
    is_named = intent.requested_name is not None or is_named_by_provider(connector, None)
    return search_key == "source" or (search_key == "name" and is_named)


async def find_copy(
    account: Account, permit: Permit, ledger: Ledger, duplication: Duplication
) -> SearchResult:
    """Search for the one campaign at the provider that must be this duplication's copy.

    Raises `NoResponse`, `UnexpectedResponse`, `Refused`, `UnreadableInput` and `LedgerUnavailable`.
    """
    if not can_search(account.connector, duplication.intent):
        return SearchResult()
    call = recorded_call(account, duplication)
    signs = CopySigns(account.connector)
    signs = await _with_source_names(signs, call, permit, [duplication.intent])
    is_unnamed = is_named_by_provider(account.connector, duplication.intent.requested_name)
    if is_unnamed and duplication.intent.source_campaign_id not in signs.source_names:
        # The source does not exist any more.
        return SearchResult()
    since = duplication.requested_at - LIST_MARGIN
    listed = await search_copies(call, permit, ledger.now, signs, since)
    matches = [
        _Match(campaign, signs, listed.clock_offset, ledger.now())
        for entry in listed.campaigns
        if not is_same_id(entry.id, duplication.intent.source_campaign_id)
        and (campaign := await with_creation_time(call, permit, entry))
    ]
    candidates = [match for match in matches if match.may_be_copy_of(duplication)]
    if not candidates:
        return SearchResult()
    # In this order: a duplication that is settled in between is still among the competing ones, or
    # its copy is among the known ones.
    within = LATEST_COPY + LIST_MARGIN if isinstance(account.connector, NamesCopies) else None
    competing = await ledger.competing(duplication, within)
    rivals = [
        other.intent
        for other in competing
        if any(candidate.may_be_copy_of(other) for candidate in candidates)
    ]
    signs = await _with_source_names(signs, call, permit, rivals)
    candidates = [replace(candidate, signs=signs) for candidate in candidates]
    ids = [candidate.campaign.id for candidate in candidates]
    known = await ledger.known_copies(duplication.intent.id_namespace, ids)
    free = [candidate for candidate in candidates if candidate.campaign.id not in known]
    is_clear = not any(
        may_be_lost_copy(
            match.campaign, match.clock_offset, duplication.requested_at, ledger.lost_times
        )
        for match in free
    )
    # A request whose record is lost competes for such a campaign, so an operator has to choose.
    copy = _assign(duplication, competing, free) if is_clear else None
    if copy is not None:
        return SearchResult(copy)
    return SearchResult(candidates=tuple(candidate.campaign for candidate in free))


@dataclass(frozen=True, slots=True)
class CopySigns:
    """By what the copies at one provider are recognised.

    `source_names` has the names of campaigns by their ids, if the provider names copies after them.
    """

    connector: object
    source_names: Mapping[str, str] = field(default_factory=dict)

    def fit(self, campaign: Campaign, intent: Intent) -> bool:
        """Compare the source id if the provider reports it, otherwise the name."""
        if campaign.copied_from is not None:
            return campaign.copied_from == intent.source_campaign_id
        if not is_named_by_provider(self.connector, intent.requested_name):
            name = intent.requested_name
            return name is not None and has_name(campaign, name)
        source_name = self.source_names.get(intent.source_campaign_id)
        if source_name is None:
            # Two campaigns may have the same name, so it may be the copy of this one.
            return True
        assert isinstance(self.connector, NamesCopies)
        name = (campaign.name or "").strip()
        # Some providers trim names, before or after they add their own words to the source's name.
        sources = {source_name.strip(), source_name.lstrip(), source_name.rstrip()}
        return bool(name) and any(self.connector.is_name_of_copy(name, each) for each in sources)

    def latest_copy(self, campaign: Campaign, intent: Intent) -> timedelta:
        """Return how long after the request the copy can have been created."""
        is_unnamed = is_named_by_provider(self.connector, intent.requested_name)
        has_source = campaign.copied_from is not None
        return LATEST_UNNAMED_COPY if is_unnamed and not has_source else LATEST_COPY


async def _with_source_names(
    signs: CopySigns, call: CopyCall, permit: Permit, intents: Iterable[Intent]
) -> CopySigns:
    """Read the names of the first sources of these intents, if their copies are named after them.

    Raises `NoResponse`, `UnexpectedResponse` and `Refused`.
    """
    names = dict(signs.source_names)
    sources = {
        intent.source_campaign_id: None
        for intent in intents
        if is_named_by_provider(signs.connector, intent.requested_name)
    }
    for source_id in list(sources)[:SOURCES_A_CHECK]:
        if source_id not in names:
            source = await look_up(call.account, permit, source_id, call.copy_input)
            if source is not None and source.name is not None:
                names[source_id] = source.name
    return replace(signs, source_names=names)


@dataclass(frozen=True, slots=True)
class Listed:
    """The campaigns that match a copy. `is_complete`: the provider's list was read to its end.

    `clock_offset` is the maximum by which the provider's clock is ahead of the ledger's.
    """

    campaigns: Sequence[Campaign]
    is_complete: bool
    clock_offset: timedelta


async def search_copies(
    call: CopyCall,
    permit: Permit,
    now: Callable[[], datetime],
    signs: CopySigns,
    since: datetime | None = None,
) -> Listed:
    """Search the provider's list for campaigns that match the copy, if possible only `since`.

    `now` is the clock with which the provider's clock is compared. Raises `NoResponse`,
    `UnexpectedResponse` and `Refused`.
    """
    transport, connector = call.account.transport, call.account.connector
    if not isinstance(connector, ListsCampaigns):
        raise UnexpectedResponse(f"{connector.title} has no call that lists campaigns")
    # By id, because a campaign that is made meanwhile moves others to the next page.
    campaigns: dict[str, Campaign] = {}
    cursor: str | None = None
    clock_offset = timedelta(0)
    is_match = partial(signs.fit, intent=call.intent)
    source_name = signs.source_names.get(call.intent.source_campaign_id)
    lost = None if since is None else LostCopy(source_name or call.intent.requested_name, since)
    reads_until = since if connector.is_newest_first else None
    for _ in range(PAGES_UNTIL_THE_CALL if reads_until else PAGES_A_SEARCH):
        asked_at = now()
        if lost is not None and isinstance(connector, NarrowsSearches):
            request = connector.build_copy_search(call.copy_input, cursor, lost)
        else:
            request = connector.build_search(call.copy_input, cursor)
        response = await transport.send_idempotent(request, permit, ProviderCall.SEARCH)
        clock_offset = _clock_offset(response, asked_at)
        until = reads_until and reads_until + clock_offset
        page = await run_parser(response, parse_page, connector, response, cursor, is_match, until)
        campaigns |= {campaign.id: campaign for campaign in page.campaigns}
        cursor = page.next_cursor
        if cursor is None:
            break
    return Listed([*campaigns.values()], is_complete=cursor is None, clock_offset=clock_offset)


def has_name(campaign: Campaign, name: str) -> bool:
    """Compare without the spaces around the name, which a provider may remove."""
    return campaign.name is not None and campaign.name.strip() == name.strip()


def _clock_offset(response: ProviderResponse, asked_at: datetime) -> timedelta:
    """Return by how much the provider's clock is ahead, by the header `Date` in whole seconds.

    Without the header, the clocks are assumed to agree. The provider wrote it after `asked_at`, so
    the result is a maximum: with too small an offset, an older campaign could look like the copy.
    """
    try:
        sent_at = parsedate_to_datetime(response.headers.get("date", ""))
        # A cache repeats an old `Date`, and reports its age in `Age`.
        age = int(response.headers.get("age", 0))
        return sent_at + timedelta(seconds=age + 1) - asked_at
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)


async def with_creation_time(call: CopyCall, permit: Permit, entry: Campaign) -> Campaign | None:
    """Return the campaign with its creation time, which some lists omit and a lookup contains.

    Return None if the campaign does not exist any more.
    """
    connector = call.account.connector
    needs_lookup = (
        entry.created_at is None
        and isinstance(connector, ListsCampaigns)
        and connector.reports_creation_time
        and isinstance(connector, ReadsCampaigns)
    )
    if not needs_lookup:
        return entry
    return await look_up(call.account, permit, entry.id, call.copy_input)


@dataclass(frozen=True, slots=True)
class _Match:
    """A campaign that matches a copy, as it was at the time `read_at`.

    `clock_offset` is the maximum by which its provider's clock is ahead of the ledger's.
    """

    campaign: Campaign
    signs: CopySigns
    clock_offset: timedelta
    read_at: datetime

    def may_be_copy_of(self, duplication: Duplication) -> bool:
        """Return whether the campaign matches and was created during the call.

        Without creation times: whether it did not exist before the call.
        """
        if not self.signs.fit(self.campaign, duplication.intent):
            return False
        requested_at, preexisting_ids = duplication.requested_at, duplication.preexisting_ids
        latest = self.signs.latest_copy(self.campaign, duplication.intent)
        if self.campaign.created_at is not None:
            created_after = self.campaign.created_at - self.clock_offset - requested_at
            return EARLIEST_COPY <= created_after <= latest
        if preexisting_ids is None or self.read_at - requested_at > latest:
            return False
        return self.campaign.id not in preexisting_ids

    def age_key(self) -> tuple[datetime, int, str]:
        """Sort by creation time. Without creation times, ids are numbers that grow."""
        created_at = self.campaign.created_at or datetime.max.replace(tzinfo=UTC)
        return created_at, len(self.campaign.id), self.campaign.id


def _assign(
    duplication: Duplication, competing: Sequence[Duplication], candidates: Sequence[_Match]
) -> Campaign | None:
    """Return the candidate that is this duplication's copy and cannot be a competing one's.

    Another unsettled duplication competes if one of the candidates could be its copy too.
    Identical duplications get the candidates in order of age, if there are as many candidates as
    duplications, or as accepted duplications.
    """
    competing = [
        other
        for other in competing
        if any(candidate.may_be_copy_of(other) for candidate in candidates)
    ]
    if len({other.intent.fingerprint for other in competing}) != 1:
        return None
    accepted = [other for other in competing if other.status is not DuplicationStatus.UNKNOWN]
    oldest_first = sorted(candidates, key=_Match.age_key)
    for owners in (competing, accepted):
        if duplication in owners and len(owners) == len(candidates):
            return oldest_first[owners.index(duplication)].campaign
    return None
