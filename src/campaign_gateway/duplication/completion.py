"""The steps after a copy is recorded: read it, and change it in one call. Both are idempotent.

A step that is not done yet is a warning of the copy, which is final when it will not be tried
again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.accounts.transport.rate_limit import Permit
from campaign_gateway.accounts.transport.redaction import REDACTED
from campaign_gateway.accounts.transport.worker import run_parser
from campaign_gateway.connectors.contract import (
    ChangesCopies,
    ProviderRequest,
    ProviderResponse,
    ReadsCampaigns,
    RenamesCopies,
    UnexpectedResponse,
)
from campaign_gateway.connectors.errors import warning
from campaign_gateway.duplication.copy_search import has_name
from campaign_gateway.duplication.intents import CopyCall
from campaign_gateway.ledger import Ledger
from campaign_gateway.model import (
    Campaign,
    CopyWarning,
    Created,
    Duplication,
    ErrorCode,
    Failure,
    Refused,
    Rejected,
    WarningCode,
)
from campaign_gateway.observe.events import ProviderCall, completion_done, completion_failed

log = logging.getLogger(__name__)

# How long a failed step is retried. After that people may work on the copy.
RETRY_FOR = timedelta(minutes=10)

# Errors of a change that may be temporary: a proxy may have sent the response, and a new copy may
# not be visible everywhere yet.
RETRYABLE = {ErrorCode.RATE_LIMITED, ErrorCode.PROVIDER_UNAVAILABLE, ErrorCode.CAMPAIGN_NOT_FOUND}

# The warnings that stand for a step.
CHANGES = (WarningCode.NAME_NOT_APPLIED, WarningCode.NOT_APPLIED)
PENDING = (*CHANGES, WarningCode.DETAILS_UNKNOWN)


def calls_of_copy(call: CopyCall) -> int:
    """Return how many calls make the copy, give it its name and set what else is set later."""
    is_renamed = isinstance(call.account.connector, RenamesCopies)
    return 3 if (is_renamed and call.intent.requested_name is not None) or _late(call) else 1


def _late(call: CopyCall) -> Sequence[str]:
    """Return the names of the requested options that only a second call sets."""
    connector = call.account.connector
    return connector.late_fields(call.copy_input) if isinstance(connector, ChangesCopies) else ()


def with_pending_warnings(call: CopyCall, copy: Created) -> Created:
    """Return the copy with a warning for each pending step."""
    return replace(copy, warnings=(*copy.warnings, *_pending_steps(call, copy.campaign)))


def without_completion(call: CopyCall, campaign: Campaign) -> Created:
    """Return a copy that a search found, with a final warning for each step that is not done.

    The gateway does not change it: it may belong to another person.
    """
    return with_final_warnings(call.account, with_pending_warnings(call, Created(campaign)))


def _pending_steps(call: CopyCall, copy: Campaign) -> Iterator[CopyWarning]:
    connector, name = call.account.connector, call.intent.requested_name
    is_named = name is None or has_name(copy, name)
    if isinstance(connector, RenamesCopies) and not is_named:
        yield warning(connector.title, WarningCode.NAME_NOT_APPLIED)
    yield from _not_applied(call)
    if isinstance(connector, ReadsCampaigns) and copy.name is None:
        yield warning(connector.title, WarningCode.DETAILS_UNKNOWN)


def _not_applied(
    call: CopyCall, message: str | None = None, *, is_final: bool = False
) -> Iterator[CopyWarning]:
    connector = call.account.connector
    for name in _late(call):
        field = ("input", connector.provider, name)
        code = WarningCode.NOT_APPLIED
        yield warning(connector.title, code, message, is_final=is_final, field=field)


def with_final_warnings(account: Account, copy: Created) -> Created:
    """Return the copy with its pending warnings marked as final."""
    title = account.connector.title
    warnings = [
        warning(title, remark.code, remark.provider_message, is_final=True, field=remark.field)
        if _is_pending(remark)
        else remark
        for remark in copy.warnings
    ]
    return replace(copy, warnings=tuple(warnings))


def has_pending_steps(warnings: Sequence[CopyWarning]) -> bool:
    return any(map(_is_pending, warnings))


def _is_pending(remark: CopyWarning) -> bool:
    return remark.code in PENDING and not remark.is_final


async def complete_copy(
    ledger: Ledger, call: CopyCall, permit: Permit, duplication: Duplication, seconds: float
) -> Duplication:
    """Do the pending steps of a CREATED duplication, in at most `seconds`.

    A step that fails stays a warning and is retried later, unless the provider rejected it. Raises
    `LedgerUnavailable`; then all steps are retried.
    """
    assert duplication.campaign is not None, "a CREATED duplication has a copy"
    lookup_response = None
    copy = Created(duplication.campaign, warnings=duplication.warnings)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            with _report_failures(call):
                copy, lookup_response = await _read(call, permit, copy)
            if any(each.code in CHANGES and _is_pending(each) for each in copy.warnings):
                with _report_failures(call):
                    copy = await _change(call, permit, copy, lookup_response)
    now = ledger.now()
    if now - (duplication.settled_at or now) >= RETRY_FOR:
        copy = with_final_warnings(call.account, copy)
    retry_at = now + timedelta(seconds=call.account.timing.completion_retry_interval)
    is_pending = has_pending_steps(copy.warnings)
    updated = await ledger.update_copy(duplication, copy, retry_at if is_pending else None)
    if updated is not None and not is_pending:
        completion_done(call.account.health, updated)
    return updated or duplication


@contextmanager
def _report_failures(call: CopyCall) -> Iterator[None]:
    """Report any failure of a step: the copy exists and is recorded already."""
    try:
        yield
    except (NoResponse, UnexpectedResponse, Refused) as failure:
        completion_failed(call.account.health, call.intent.id, failure)
    except Exception:
        log.exception("a bug in the gateway, duplication %s", call.intent.id)


async def _read(
    call: CopyCall, permit: Permit, copy: Created
) -> tuple[Created, ProviderResponse | None]:
    """Return the copy as the provider describes it, and the whole response that contains it.

    Raises `NoResponse`, `UnexpectedResponse` and `Refused`.
    """
    connector, name = call.account.connector, call.intent.requested_name
    if not isinstance(connector, ReadsCampaigns):
        return copy, None
    lookup = connector.build_lookup(copy.campaign.id, call.copy_input)
    lookup_response = await call.account.transport.send_idempotent(
        lookup, permit, ProviderCall.LOOKUP
    )
    campaign = await run_parser(
        lookup_response, connector.parse_lookup, lookup_response, copy.campaign.id
    )
    if campaign is None:
        # A new copy may not be visible yet.
        return copy, None
    campaign = replace(campaign, copied_objects=copy.campaign.copied_objects)
    copy = _without(replace(copy, campaign=campaign), WarningCode.DETAILS_UNKNOWN)
    if name is not None and has_name(campaign, name):
        copy = _without(copy, WarningCode.NAME_NOT_APPLIED)
    # A connector may send parts of it back, and the copy would then have the mark in its content.
    return copy, None if REDACTED in lookup_response.body else lookup_response


async def _change(
    call: CopyCall, permit: Permit, copy: Created, lookup_response: ProviderResponse | None
) -> Created:
    """Return the changed copy, or the copy with the reasons why it is not. Raises like `_read`."""
    connector = call.account.connector
    is_unnamed = any(each.code is WarningCode.NAME_NOT_APPLIED for each in copy.warnings)
    try:
        request, parse = _build_change(call, copy.campaign.id, lookup_response)
    except Refused as refusal:
        if lookup_response is None or refusal.error.code in RETRYABLE:
            raise
        # The copy itself forbids the change, and would forbid it again.
        completion_failed(call.account.health, call.intent.id, refusal)
        return with_final_warnings(call.account, copy)
    response = await call.account.transport.send_idempotent(request, permit, ProviderCall.RENAME)
    failure = await run_parser(response, parse, response)
    copy = _without(copy, *CHANGES)
    if failure is None:
        name = call.intent.requested_name if is_unnamed else copy.campaign.name
        return replace(copy, campaign=replace(copy.campaign, name=name))
    error = failure.error
    message = error.provider_message or error.provider_code
    # Without the lookup's response the change may have been incomplete, and so rejected.
    is_complete = lookup_response is not None or not isinstance(connector, ReadsCampaigns)
    is_final = is_complete and isinstance(failure, Rejected) and error.code not in RETRYABLE
    remarks = list(_not_applied(call, message, is_final=is_final))
    if is_unnamed:
        code = WarningCode.NAME_NOT_APPLIED
        remarks.insert(0, warning(connector.title, code, message, is_final=is_final))
    return replace(copy, warnings=(*copy.warnings, *remarks))


def _build_change(
    call: CopyCall, copy_id: str, lookup_response: ProviderResponse | None
) -> tuple[ProviderRequest, Callable[[ProviderResponse], Failure | None]]:
    """Return the call that changes the copy, and what reads its response. Raises `Refused`."""
    connector, copy_input = call.account.connector, call.copy_input
    if isinstance(connector, ChangesCopies) and _late(call):
        return connector.build_change(copy_input, copy_id, lookup_response), connector.parse_change
    assert isinstance(connector, RenamesCopies), "only such connectors have these warnings"
    return connector.build_rename(copy_input, copy_id, lookup_response), connector.parse_rename


def _without(copy: Created, *codes: WarningCode) -> Created:
    return replace(copy, warnings=tuple(item for item in copy.warnings if item.code not in codes))
