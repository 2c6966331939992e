"""What is left to do once a copy is on record: to read what it is like, and to give it its name.

Neither makes anything, so both may be done twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connector import (
    ProviderResponse,
    ReadsCampaigns,
    RenamesCopies,
    UnreadableAnswer,
)
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
from campaign_gateway.reading import is_called
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

# The warnings of what is left to do.
LEFT = (WarningCode.NOT_NAMED, WarningCode.NOT_READ)


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
    return any(each.code in LEFT for each in warnings)


async def finish(
    ledger: Ledger, account: Account, campaign: Any, duplication: Duplication, seconds: float
) -> Duplication:
    """Do what the warnings of a CREATED duplication say is left, in so many seconds at most.

    What fails stays a warning, and is tried again where that may help. Raises `LedgerUnavailable`;
    then all of it is.
    """
    assert duplication.campaign is not None, "what is CREATED has a copy"
    copy = Created(duplication.campaign, warnings=duplication.warnings)
    try:
        async with asyncio.timeout(seconds):
            copy, again = await _finished(account, duplication.intent, campaign, copy)
    except TimeoutError:
        again = True
    now = datetime.now(UTC)
    again = again and now - (duplication.settled_at or now) < TRIED_FOR
    state = ", ".join(each.code for each in copy.warnings) or "finished"
    log.info("duplication %s: copy %s is %s", duplication.intent.id, copy.campaign.id, state)
    return await ledger.amend(duplication, copy, now + PAUSE if again else None) or duplication


async def _finished(
    account: Account, intent: Intent, campaign: Any, copy: Created
) -> tuple[Created, bool]:
    """The copy as it is then, and whether trying again may help."""
    read = await _tried(intent, _read(account, intent, campaign, copy))
    copy, described = read.copy or copy, read.described
    if any(each.code is WarningCode.NOT_NAMED for each in copy.warnings):
        named = await _tried(intent, _name(account, intent, campaign, copy, described))
        return named.copy or copy, read.again or named.again
    return copy, read.again


@dataclass(frozen=True, slots=True)
class _Step:
    """What one step came to: the copy, if it is another now, and whether to try again.

    `described` is the answer to a lookup.
    """

    copy: Created | None = None
    again: bool = False
    described: ProviderResponse | None = None


async def _tried(intent: Intent, step: Awaitable[_Step]) -> _Step:
    try:
        return await step
    except (NoAnswer, UnreadableAnswer) as failure:
        log.warning("the copy of duplication %s is not finished: %s", intent.id, failure)
        return _Step(again=True)
    except Refused as refusal:
        log.warning("the copy of duplication %s is not finished: %s", intent.id, refusal)
        return _Step(again=refusal.error.code is ErrorCode.RATE_LIMITED)
    except Exception:
        # The copy is there and on record, whatever trips over it.
        log.exception("a fault of the gateway's own, duplication %s", intent.id)
        return _Step(again=True)


async def _read(account: Account, intent: Intent, campaign: Any, copy: Created) -> _Step:
    """Raises `NoAnswer`, `UnreadableAnswer` and `Refused`."""
    connector, name = account.connector, intent.requested_name
    if not isinstance(connector, ReadsCampaigns):
        return _Step()
    lookup = connector.build_lookup(copy.campaign.id, campaign)
    described = await account.transport.read(lookup)
    read = connector.read_lookup(described, copy.campaign.id)
    if read is None:
        # It may take a moment until a copy is seen.
        return _Step(again=True)
    copy = _without(replace(copy, campaign=read), WarningCode.NOT_READ)
    if name is not None and is_called(read, name):
        copy = _without(copy, WarningCode.NOT_NAMED)
    return _Step(copy, described=described)


async def _name(
    account: Account,
    intent: Intent,
    campaign: Any,
    copy: Created,
    described: ProviderResponse | None,
) -> _Step:
    """Raises `NoAnswer`, `UnreadableAnswer` and `Refused`."""
    connector = account.connector
    assert isinstance(connector, RenamesCopies), "the warning says so"
    request = connector.build_rename(campaign, copy.campaign.id, described)
    refusal = connector.read_rename(await account.transport.read(request))
    copy = _without(copy, WarningCode.NOT_NAMED)
    if refusal is None:
        return _Step(replace(copy, campaign=replace(copy.campaign, name=intent.requested_name)))
    error = refusal.error
    said = error.provider_message or error.provider_code
    told = warning(connector.title, WarningCode.NOT_NAMED, said)
    is_final = isinstance(refusal, Rejected) and error.code is not ErrorCode.RATE_LIMITED
    return _Step(replace(copy, warnings=(*copy.warnings, told)), again=not is_final)


def _without(copy: Created, code: WarningCode) -> Created:
    return replace(copy, warnings=tuple(each for each in copy.warnings if each.code is not code))
