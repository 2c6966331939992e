"""What is left to do once a copy is on record: to give it its name, and to read what it is like.

Neither makes anything, so both may be done twice.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connector import ReadsCampaigns, RenamesCopies, UnreadableAnswer
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.contract import Duplication, Intent
from campaign_gateway.outcomes import (
    CopyWarning,
    Created,
    ErrorCode,
    Refused,
    Rejected,
    WarningCode,
)
from campaign_gateway.reading import is_called, look_up
from campaign_gateway.transport import NoAnswer
from campaign_gateway.wire import warning

log = logging.getLogger(__name__)

# How long whoever asked for the copy waits for this, in seconds. After that it is done unasked.
FINISH_SECONDS = 5

# When to look whether the gateway that made the copy has left something undone.
UNFINISHED_AFTER = timedelta(seconds=FINISH_SECONDS + 5)

# How often, and for how long, what fails is tried again: people may work on the copy by then.
PAUSE = timedelta(seconds=15)
TRIED_FOR = timedelta(minutes=10)


def with_what_is_left(account: Account, intent: Intent, copy: Created) -> Created:
    """The copy with a warning for each thing that is left to do, which holds until it is done."""
    left = [warning(account.connector.title, code) for code in _left(account, intent, copy)]
    return replace(copy, warnings=(*copy.warnings, *left))


def _left(account: Account, intent: Intent, copy: Created) -> Iterator[WarningCode]:
    connector, name = account.connector, intent.requested_name
    has_its_name = name is None or is_called(copy.campaign, name)
    if isinstance(connector, RenamesCopies) and not has_its_name:
        yield WarningCode.NOT_NAMED
    if isinstance(connector, ReadsCampaigns) and copy.campaign.name is None:
        yield WarningCode.NOT_READ


def is_unfinished(warnings: Sequence[CopyWarning]) -> bool:
    return any(each.code in _STEPS for each in warnings)


async def finish(
    ledger: Ledger, account: Account, campaign: Any, duplication: Duplication, seconds: float
) -> Duplication:
    """Do what the warnings of a CREATED duplication say is left, in so many seconds at most.

    What fails stays a warning, and is tried again where that may help. Raises `LedgerUnavailable`;
    then all of it is.
    """
    assert duplication.campaign is not None, "what is CREATED has a copy"
    copy, again = Created(duplication.campaign, warnings=duplication.warnings), False
    try:
        async with asyncio.timeout(seconds):
            for code in [each.code for each in copy.warnings if each.code in _STEPS]:
                copy, may_help = await _STEPS[code](account, duplication.intent, campaign, copy)
                again = again or may_help
    except TimeoutError:
        again = True
    now = datetime.now(UTC)
    again = again and now - (duplication.settled_at or now) < TRIED_FOR
    state = ", ".join(each.code for each in copy.warnings) or "finished"
    log.info("duplication %s: copy %s is %s", duplication.intent.id, copy.campaign.id, state)
    return await ledger.amend(duplication, copy, now + PAUSE if again else None) or duplication


async def _name(
    account: Account, intent: Intent, campaign: Any, copy: Created
) -> tuple[Created, bool]:
    """The copy with its name, or as it was, and whether trying again may help."""
    connector = account.connector
    assert isinstance(connector, RenamesCopies), "the warning says so"
    try:
        request = connector.build_rename(campaign, copy.campaign.id)
        refusal = connector.read_rename(await account.transport.read(request))
    except (NoAnswer, UnreadableAnswer, Refused) as failure:
        log.warning("the copy of duplication %s is not named: %s", intent.id, failure)
        return copy, not isinstance(failure, Refused)
    if refusal is None:
        named = replace(copy.campaign, name=intent.requested_name)
        return _without(replace(copy, campaign=named), WarningCode.NOT_NAMED), False
    error = refusal.error
    said = error.provider_message or error.provider_code
    told = warning(connector.title, WarningCode.NOT_NAMED, said)
    copy = _without(copy, told.code)
    may_help = not isinstance(refusal, Rejected) or error.code is ErrorCode.RATE_LIMITED
    return replace(copy, warnings=(*copy.warnings, told)), may_help


async def _read(
    account: Account, intent: Intent, campaign: Any, copy: Created
) -> tuple[Created, bool]:
    """The copy as the provider describes it, or as it was, and whether trying again may help."""
    try:
        read = await look_up(account, copy.campaign.id, campaign)
    except (NoAnswer, UnreadableAnswer, Refused) as failure:
        log.warning("the copy of duplication %s is not read: %s", intent.id, failure)
        return copy, not isinstance(failure, Refused)
    if read is None:
        return copy, True
    # The provider may not yet tell the name that it has just been given.
    read = replace(read, name=copy.campaign.name or read.name)
    return _without(replace(copy, campaign=read), WarningCode.NOT_READ), False


def _without(copy: Created, code: WarningCode) -> Created:
    return replace(copy, warnings=tuple(each for each in copy.warnings if each.code is not code))


_STEPS = {WarningCode.NOT_NAMED: _name, WarningCode.NOT_READ: _read}
