"""What is left to do once a copy is on record: to read what it is like, and to give it its name.

Neither makes anything, so both may be done twice.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connectors.contract import (
    ProviderResponse,
    ReadsCampaigns,
    RenamesCopies,
    UnexpectedResponse,
)
from campaign_gateway.connectors.errors import warning
from campaign_gateway.duplication.copy_search import has_name
from campaign_gateway.ledger import Ledger
from campaign_gateway.model import (
    CopyWarning,
    Created,
    Duplication,
    ErrorCode,
    Intent,
    Refused,
    Rejected,
    WarningCode,
)
from campaign_gateway.transport.errors import NoResponse
from campaign_gateway.transport.worker import parsed

log = logging.getLogger(__name__)

# How long whoever asked for the copy waits for this, in seconds. After that it is done unasked.
COMPLETION_SECONDS = 5

# When to look whether the gateway that made the copy has left something undone.
COMPLETION_DUE_AFTER = timedelta(seconds=COMPLETION_SECONDS + 5)

# How often, and for how long, what fails is tried again: people may work on the copy by then.
RETRY_INTERVAL = timedelta(seconds=15)
RETRY_FOR = timedelta(minutes=10)

# Refusals of a rename that may not hold: a proxy may have spoken in place of the provider, and a
# copy that is a moment old may not be seen everywhere.
RETRYABLE = {ErrorCode.RATE_LIMITED, ErrorCode.PROVIDER_UNAVAILABLE, ErrorCode.CAMPAIGN_NOT_FOUND}

# The warnings of what is left to do.
PENDING = (WarningCode.NAME_NOT_APPLIED, WarningCode.DETAILS_UNKNOWN)


def with_pending_warnings(account: Account, intent: Intent, copy: Created) -> Created:
    """The copy with a warning for each thing that is left to do, which holds until it is done."""
    left = [warning(account.connector.title, code) for code in _left(account, intent, copy)]
    return replace(copy, warnings=(*copy.warnings, *left))


def _left(account: Account, intent: Intent, copy: Created) -> Iterator[WarningCode]:
    connector, name = account.connector, intent.requested_name
    has_its_name = name is None or has_name(copy.campaign, name)
    if isinstance(connector, RenamesCopies) and not has_its_name:
        yield WarningCode.NAME_NOT_APPLIED
    if isinstance(connector, ReadsCampaigns) and copy.campaign.name is None:
        yield WarningCode.DETAILS_UNKNOWN


def with_final_warnings(account: Account, copy: Created) -> Created:
    """The copy with what is left to do left to people."""
    title = account.connector.title
    told = [
        warning(title, each.code, each.provider_message, is_final=True)
        if _is_pending(each)
        else each
        for each in copy.warnings
    ]
    return replace(copy, warnings=tuple(told))


def has_pending_steps(warnings: Sequence[CopyWarning]) -> bool:
    return any(map(_is_pending, warnings))


def _is_pending(remark: CopyWarning) -> bool:
    return remark.code in PENDING and not remark.is_final


async def complete_copy(
    ledger: Ledger, account: Account, campaign: Any, duplication: Duplication, seconds: float
) -> Duplication:
    """Do what the warnings of a CREATED duplication say is left, in so many seconds at most.

    What fails stays a warning, and is tried again unless the provider has refused it. Raises
    `LedgerUnavailable`; then all of it is.
    """
    assert duplication.campaign is not None, "what is CREATED has a copy"
    intent, lookup_response = duplication.intent, None
    copy = Created(duplication.campaign, warnings=duplication.warnings)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            with _log_failures(intent):
                copy, lookup_response = await _read(account, intent, campaign, copy)
            if any(
                each.code is WarningCode.NAME_NOT_APPLIED and _is_pending(each)
                for each in copy.warnings
            ):
                with _log_failures(intent):
                    copy = await _name(account, intent, campaign, copy, lookup_response)
    now = ledger.now()
    if now - (duplication.settled_at or now) >= RETRY_FOR:
        copy = with_final_warnings(account, copy)
    again = has_pending_steps(copy.warnings)
    state = ", ".join(each.code for each in copy.warnings) or "finished"
    log.info("duplication %s: copy %s is %s", intent.id, copy.campaign.id, state)
    return (
        await ledger.update_copy(duplication, copy, now + RETRY_INTERVAL if again else None)
        or duplication
    )


@contextmanager
def _log_failures(intent: Intent) -> Iterator[None]:
    """The copy is there and on record, whatever trips over it."""
    try:
        yield
    except (NoResponse, UnexpectedResponse, Refused) as failure:
        log.warning(
            "the copy of duplication %s at %s is not finished: %s",
            intent.id,
            intent.account,
            failure,
        )
    except Exception:
        log.exception("a fault of the gateway's own, duplication %s", intent.id)


async def _read(
    account: Account, intent: Intent, campaign: Any, copy: Created
) -> tuple[Created, ProviderResponse | None]:
    """The copy as the provider describes it, and the answer that does so.

    Raises `NoResponse`, `UnexpectedResponse` and `Refused`.
    """
    connector, name = account.connector, intent.requested_name
    if not isinstance(connector, ReadsCampaigns):
        return copy, None
    lookup = connector.build_lookup(copy.campaign.id, campaign)
    lookup_response = await account.transport.send_idempotent(lookup)
    read = await parsed(lookup_response, connector.parse_lookup, lookup_response, copy.campaign.id)
    if read is None:
        # It may take a moment until a copy is seen.
        return copy, None
    copy = _without(replace(copy, campaign=read), WarningCode.DETAILS_UNKNOWN)
    if name is not None and has_name(read, name):
        copy = _without(copy, WarningCode.NAME_NOT_APPLIED)
    return copy, lookup_response


async def _name(
    account: Account,
    intent: Intent,
    campaign: Any,
    copy: Created,
    lookup_response: ProviderResponse | None,
) -> Created:
    """The copy with its name, or with why it has another. Raises as `_read`."""
    connector = account.connector
    assert isinstance(connector, RenamesCopies), "the warning says so"
    request = connector.build_rename(campaign, copy.campaign.id, lookup_response)
    response = await account.transport.send_idempotent(request)
    refusal = await parsed(response, connector.parse_rename, response)
    copy = _without(copy, WarningCode.NAME_NOT_APPLIED)
    if refusal is None:
        return replace(copy, campaign=replace(copy.campaign, name=intent.requested_name))
    error = refusal.error
    said = error.provider_message or error.provider_code
    # It may have been refused for lack of what would have been read.
    is_complete = lookup_response is not None or not isinstance(connector, ReadsCampaigns)
    is_final = is_complete and isinstance(refusal, Rejected) and error.code not in RETRYABLE
    told = warning(connector.title, WarningCode.NAME_NOT_APPLIED, said, is_final=is_final)
    return replace(copy, warnings=(*copy.warnings, told))


def _without(copy: Created, code: WarningCode) -> Created:
    return replace(copy, warnings=tuple(each for each in copy.warnings if each.code is not code))
