"""What an operator does with duplications that the gateway cannot settle.

An operator checks at the provider, records the result, and may withdraw it.
"""

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.accounts.transport.rate_limit import CallKind
from campaign_gateway.connectors.contract import ReadsCampaigns, RenamesCopies, UnexpectedResponse
from campaign_gateway.duplication.campaign_reads import look_up
from campaign_gateway.duplication.copy_search import (
    CALLS_A_CHECK,
    EARLIEST_COPY,
    can_search,
    find_copy,
    has_name,
)
from campaign_gateway.duplication.intents import UnreadableInput, recorded_call
from campaign_gateway.duplication.lost_time import may_be_lost_copy
from campaign_gateway.ledger import Ledger
from campaign_gateway.model import (
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    OperatorNote,
    Refused,
    UserError,
    is_same_id,
)

log = logging.getLogger(__name__)

# Only these can need an operator.
UNSETTLED = (DuplicationStatus.IN_PROGRESS, DuplicationStatus.UNKNOWN, DuplicationStatus.ACCEPTED)

ABSENT = UserError(
    ErrorCode.PROVIDER_UNAVAILABLE,
    "The operator of the gateway has checked at the provider: no copy was made. You can request "
    "the copy again.",
)
REOPENED = UserError(
    ErrorCode.OUTCOME_UNKNOWN,
    "The operator of the gateway has withdrawn a result that was recorded by mistake, so the copy "
    "may or may not exist. Wait for the result, or check at the provider, before you request "
    "another copy.",
)


class CannotResolve(Exception):
    """The operator cannot settle or reopen the duplication like this."""


async def get(ledger: Ledger, duplication_id: str) -> Duplication:
    """Raises `CannotResolve`."""
    duplication = await ledger.get(None, duplication_id)
    if duplication is None:
        raise CannotResolve(f"there is no duplication {duplication_id}")
    return duplication


async def get_unsettled(ledger: Ledger, duplication_id: str) -> Duplication:
    """Return a duplication that an operator can settle. Raises `CannotResolve`."""
    duplication = await get(ledger, duplication_id)
    if duplication.status is DuplicationStatus.IN_PROGRESS:
        raise CannotResolve(
            f"{duplication_id} is IN_PROGRESS: wait until its call ends. If its gateway is gone, "
            "wait until another gateway takes over, or start one"
        )
    if duplication.status not in UNSETTLED:
        raise CannotResolve(f"{duplication_id} is already {duplication.status}")
    return duplication


async def get_withdrawable(ledger: Ledger, duplication_id: str) -> Duplication:
    """Return a duplication whose result an operator can withdraw. Raises `CannotResolve`."""
    duplication = await get(ledger, duplication_id)
    if duplication.evidence is not Evidence.OPERATOR:
        evidence = f" (evidence: {duplication.evidence})" if duplication.evidence else ""
        raise CannotResolve(
            f"{duplication_id} is {duplication.status}{evidence}: no operator recorded this "
            "result, so it cannot be withdrawn"
        )
    if later := await ledger.built_on(duplication):
        raise CannotResolve(
            f"{duplication_id} cannot be reopened: since its result was recorded, duplication "
            f"{later} has been made or settled in a way that depends on it. See it with "
            "`duplications show`, and check at the provider what both have copied"
        )
    return duplication


# What is true of the copy


async def require_free(ledger: Ledger, duplication: Duplication, campaign_id: str) -> None:
    """Check what the ledger knows of a campaign before it is recorded as the copy.

    Raises `CannotResolve` if it cannot be the copy.
    """
    intent, named = duplication.intent, duplication.campaign
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", campaign_id):
        raise CannotResolve("a campaign's id is 1 to 128 letters, digits, '-' or '_'")
    if is_same_id(campaign_id, intent.source_campaign_id):
        raise CannotResolve(f"{campaign_id} is the source campaign, so it cannot be the copy")
    if named is not None and not is_same_id(campaign_id, named.id):
        raise CannotResolve(
            f"{campaign_id} is not the copy: the provider has named {named.id} as the copy of "
            f"{intent.id}"
        )
    owner = await ledger.owner_of(intent.id_namespace, campaign_id)
    if owner is not None and owner.intent.id != intent.id:
        raise CannotResolve(f"{campaign_id} is the copy of another duplication, {owner.intent.id}")


async def read_copy(account: Account, duplication: Duplication, campaign_id: str) -> Campaign:
    """Read the campaign at the provider. Raises `CannotResolve` if that shows no campaign."""
    title = account.connector.title
    if not isinstance(account.connector, ReadsCampaigns):
        raise CannotResolve(
            f"{title} has no call that reads one campaign. Check it yourself, and add --unchecked"
        )
    try:
        copy_input = recorded_call(account, duplication).copy_input
        timeout = account.timing.check_timeout
        async with account.rate_limiter.acquire(CallKind.READ, timeout) as permit:
            campaign = await look_up(account, permit, campaign_id, copy_input)
    except (NoResponse, UnexpectedResponse, Refused, UnreadableInput) as failure:
        raise CannotResolve(
            f"campaign {campaign_id} could not be read at {title}: {failure}. Try again, or check "
            "it yourself and add --unchecked"
        ) from failure
    if campaign is None:
        raise CannotResolve(
            f"there is no campaign {campaign_id} at {title}, as account {account.name} sees it"
        )
    return campaign


def doubts_about_copy(
    account: Account, ledger: Ledger, duplication: Duplication, campaign: Campaign
) -> Iterator[str]:
    """Yield what speaks against the campaign as the copy."""
    intent, requested_at = duplication.intent, duplication.requested_at
    if campaign.copied_from not in {None, intent.source_campaign_id}:
        yield f"the campaign is a copy of {campaign.copied_from}"
    if campaign.created_at and campaign.created_at - requested_at < EARLIEST_COPY:
        yield "the campaign was created before the request"
    if may_be_lost_copy(campaign, timedelta(0), requested_at, ledger.lost_times):
        yield "the campaign may be the copy of a request whose record is lost"
    is_renamed = isinstance(account.connector, RenamesCopies)
    if intent.requested_name and not is_renamed and not has_name(campaign, intent.requested_name):
        yield "the campaign does not have the requested name"


async def search_candidates(
    account: Account, ledger: Ledger, duplication: Duplication
) -> Sequence[Campaign] | None:
    """Search at the provider for campaigns that may be the copy.

    Return None if the provider has no list in which the copy could be recognised. Raises
    `CannotResolve` if the search failed, and `LedgerUnavailable`.
    """
    if duplication.campaign is not None:
        # The provider has named it, so there is nothing to search for.
        return [duplication.campaign]
    if not can_search(account.connector, duplication.intent):
        return None
    timeout = account.timing.check_timeout
    try:
        async with account.rate_limiter.acquire(CallKind.CHECK, timeout, CALLS_A_CHECK) as permit:
            async with asyncio.timeout(timeout):
                result = await find_copy(account, permit, ledger, duplication)
    except (NoResponse, UnexpectedResponse, Refused, UnreadableInput, TimeoutError) as failure:
        raise CannotResolve(
            f"{account.connector.title} could not be searched: {str(failure) or 'timeout'}. Try "
            "again, or check it yourself and add --unchecked"
        ) from failure
    return [result.copy] if result.copy else result.candidates


# What is recorded


async def resolve_as_created(
    ledger: Ledger, duplication_id: str, copy: Campaign, note: OperatorNote
) -> None:
    """Record that the campaign is the copy. Raises `CannotResolve`."""
    duplication = await get_unsettled(ledger, duplication_id)
    await require_free(ledger, duplication, copy.id)
    if not await ledger.settle_from_evidence(
        duplication, Created(copy), Evidence.OPERATOR, ledger.now(), None, note=note
    ):
        raise CannotResolve(f"{duplication_id} or {copy.id} was changed just now; show it again")
    _log(duplication, f"CREATED as campaign {copy.id}", note)


async def resolve_as_not_created(ledger: Ledger, duplication_id: str, note: OperatorNote) -> None:
    """Record that there is no copy. Raises `CannotResolve`."""
    duplication = await get_unsettled(ledger, duplication_id)
    if not await ledger.settle_as_not_created(duplication, ABSENT, ledger.now(), note=note):
        raise CannotResolve(f"{duplication_id} was settled just now; show it again")
    _log(duplication, "REJECTED", note)


async def withdraw(ledger: Ledger, shown: Duplication, note: OperatorNote) -> None:
    """Withdraw the result that was shown to the operator. Raises `CannotResolve`."""
    duplication = await get_withdrawable(ledger, shown.intent.id)
    if not await ledger.reopen(shown, REOPENED, ledger.now(), note):
        raise CannotResolve(f"{shown.intent.id} was changed just now; show it again")
    _log(duplication, "UNKNOWN again", note)


def _log(duplication: Duplication, status: str, note: OperatorNote) -> None:
    log.info(
        "duplication %s at %s is %s: recorded by %s, who gave the reason %r",
        duplication.intent.id,
        duplication.intent.account,
        status,
        note.operator,
        note.reason,
    )
