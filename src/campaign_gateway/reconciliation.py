"""Reads the provider until it is known what became of a duplication; it never sends again."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connector import FindsCopies, ReadsCampaigns, UnreadableAnswer
from campaign_gateway.ledger.contract import Duplication, Ledger, LedgerUnavailable
from campaign_gateway.outcomes import Campaign, DuplicationStatus, Evidence, Refused
from campaign_gateway.transport import NoAnswer

log = logging.getLogger(__name__)

# Seconds between the checks of one duplication; the last pause repeats.
PAUSES = (2, 3, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)

CHECKS_AT_ONCE = 8
PAGES_A_SEARCH = 3

# A copy is taken for ours when it was made in this interval around the request. The start allows
# for clocks that differ, the end for copies that a provider makes late.
EARLIEST_COPY = timedelta(minutes=-2)
EARLIEST_PROMISED_COPY = timedelta(seconds=-5)
LATEST_COPY = timedelta(hours=24)


async def reconcile(accounts: Mapping[str, Account], ledger: Ledger, every_seconds: float) -> None:
    """Check what is due, for ever."""
    while True:
        try:
            due = await ledger.due(datetime.now(UTC), CHECKS_AT_ONCE)
            await asyncio.gather(*(_check(accounts, ledger, each) for each in due))
        except LedgerUnavailable as failure:
            log.error("the ledger cannot be used: %s", failure)
        await asyncio.sleep(every_seconds)


async def _check(accounts: Mapping[str, Account], ledger: Ledger, duplication: Duplication) -> None:
    account = accounts.get(duplication.intent.account)
    copy: Campaign | None = None
    try:
        if account is not None:
            copy = await find_copy(account, ledger, duplication)
    except (NoAnswer, UnreadableAnswer, Refused) as failure:
        log.warning("duplication %s could not be checked: %s", duplication.intent.id, failure)
    except LedgerUnavailable:
        raise
    except Exception:
        # One row that trips a fault of ours must not stop the checks of all the others.
        log.exception("duplication %s could not be checked", duplication.intent.id)
    now = datetime.now(UTC)
    if copy and await ledger.settle_by_reading(duplication, copy, Evidence.INFERRED, now):
        log.info("duplication %s is campaign %s", duplication.intent.id, copy.id)
        return
    pause = PAUSES[min(duplication.checks, len(PAUSES) - 1)]
    await ledger.postpone(duplication, now + timedelta(seconds=pause))


async def find_copy(account: Account, ledger: Ledger, duplication: Duplication) -> Campaign | None:
    """The one campaign at the provider that must be this duplication's copy, if there is one.

    Raises `NoAnswer`, `UnreadableAnswer` and `LedgerUnavailable`.
    """
    name = duplication.intent.requested_name
    if name is None or not isinstance(account.connector, FindsCopies):
        return None
    campaign = input_of(account, duplication)
    found = [
        each
        for each in await _search(account, account.connector, campaign)
        if _is_called(each, name) and each.id != duplication.intent.source_campaign_id
    ]
    candidates = [
        candidate
        for each in found
        if (candidate := await _in_full(account, campaign, each))
        and _may_be_copy(candidate, duplication, EARLIEST_COPY)
    ]
    # In this order: whoever settles in between is then either still a rival or has its claim seen.
    rivals = await ledger.rivals(duplication)
    known = await ledger.claimed(account.name, [each.id for each in candidates])
    return _choose(duplication, rivals, [each for each in candidates if each.id not in known])


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


async def _search(
    account: Account, connector: FindsCopies[Any], campaign: Any
) -> Sequence[Campaign]:
    found: list[Campaign] = []
    cursor: str | None = None
    for _ in range(PAGES_A_SEARCH):
        response = await account.transport.read(connector.build_search(campaign, cursor))
        page = connector.read_search(response, cursor)
        found += page.campaigns
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


async def _in_full(account: Account, campaign: Any, listed: Campaign) -> Campaign | None:
    """The campaign with the time it was made, which some lists leave out."""
    if listed.created_at is not None or not isinstance(account.connector, ReadsCampaigns):
        return listed
    return await look_up(account, listed.id, campaign)


def _is_called(campaign: Campaign, name: str) -> bool:
    # A provider may trim what it is given.
    return campaign.name is not None and campaign.name.strip() == name.strip()


def _may_be_copy(candidate: Campaign, duplication: Duplication, earliest: timedelta) -> bool:
    """Without its time, an older campaign of the same name could be taken for the copy."""
    if candidate.created_at is None:
        return False
    return earliest <= candidate.created_at - duplication.requested_at <= LATEST_COPY


def _choose(
    duplication: Duplication, rivals: Sequence[Duplication], candidates: Sequence[Campaign]
) -> Campaign | None:
    """The copy that is this duplication's and can be no rival's.

    What was asked and never clearly answered has a weaker claim than what the provider has said
    yes to, as long as the copy was not there before that was asked.
    """
    promised = [each for each in rivals if each.status is not DuplicationStatus.UNKNOWN]
    return _deal(duplication, rivals, candidates, EARLIEST_COPY) or _deal(
        duplication, promised, candidates, EARLIEST_PROMISED_COPY
    )


def _deal(
    duplication: Duplication,
    rivals: Sequence[Duplication],
    candidates: Sequence[Campaign],
    earliest: timedelta,
) -> Campaign | None:
    """One copy for one intent; as many copies as equal intents are dealt out in order of age.

    A campaign does not tell what it was copied from, so whoever waits for one of this name, and
    could be its owner, is a rival.
    """

    def fits(candidate: Campaign, rival: Duplication) -> bool:
        return _may_be_copy(candidate, rival, earliest)

    rivals = [each for each in rivals if any(fits(candidate, each) for candidate in candidates)]
    copies = [each for each in candidates if any(fits(each, rival) for rival in rivals)]
    are_equal = len({each.intent.fingerprint for each in rivals}) == 1
    if duplication not in rivals or len(copies) != len(rivals) or not are_equal:
        return None
    by_age = sorted(copies, key=lambda each: (each.created_at, each.id))
    return by_age[rivals.index(duplication)]
