"""The one attempt at a copy: record it, send it, settle it and complete the copy."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, repeat

from campaign_gateway.accounts.transport.errors import NoResponse, NotSent
from campaign_gateway.accounts.transport.rate_limit import Permit
from campaign_gateway.accounts.transport.worker import run_copy_parser
from campaign_gateway.connectors.contract import ListsCampaigns, ProviderRequest, UnexpectedResponse
from campaign_gateway.duplication.completion import (
    complete_copy,
    has_pending_steps,
    with_pending_warnings,
)
from campaign_gateway.duplication.copy_search import CopySigns, can_search, search_copies
from campaign_gateway.duplication.errors import NEVER_SENT, not_reached, outcome_unknown
from campaign_gateway.duplication.intents import CopyCall
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import KeyConflict, LedgerClosed, LedgerUnavailable
from campaign_gateway.ledger.ledger import BeginResult, Begun, KeyHeld, NotBegun
from campaign_gateway.model import (
    Accepted,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Intent,
    Outcome,
    Refused,
    Rejected,
    Timing,
    Unknown,
    status_of,
)
from campaign_gateway.observe.events import (
    SettledBy,
    ledger_failed,
    outcome_settled,
    search_done,
    search_failed,
)

log = logging.getLogger(__name__)

# How long the list may take that is read before a call, in seconds.
LIST_SECONDS = 5


class _Stopped(Exception):
    """Raised into the transport, so that nothing is sent without a record."""

    def __init__(self, result: NotBegun) -> None:
        super().__init__()
        self.result = result


@dataclass
class _Recording:
    """Writes the record when the connection is open and before the first byte is sent."""

    ledger: Ledger
    intent: Intent
    preexisting_ids: tuple[str, ...] | None
    task: asyncio.Task[BeginResult] | None = None

    async def begin(self) -> None:
        """Raises `_Stopped` and `LedgerUnavailable`."""
        now = self.ledger.now()
        self.task = asyncio.create_task(self.ledger.begin(self.intent, now, self.preexisting_ids))
        # Shielded: if the deadline ends now, the record must not stay unsettled.
        result = await asyncio.shield(self.task)
        if not isinstance(result, Begun):
            raise _Stopped(result)


async def attempt(
    ledger: Ledger, call: CopyCall, permit: Permit, request: ProviderRequest
) -> Duplication | NotBegun:
    """Send the request at most once, and record its outcome.

    Return the settled record, or why the ledger did not begin it. Raises `Refused` and
    `LedgerUnavailable`, both before the first byte. After `CommitUncertain`, which is a
    `LedgerUnavailable`, the caller has to mark the intent as never sent.
    """
    existing = await _list_existing(ledger, call, permit)
    recording = _Recording(ledger, call.intent, existing)
    try:
        outcome, http_status = await _send(recording, call, permit, request)
    except _Stopped as stopped:
        return stopped.result
    assert recording.task is not None, "nothing is sent without a record"
    # The deadline may have ended while the ledger was writing.
    result = await recording.task
    if not isinstance(result, Begun):
        return result
    if isinstance(outcome, Rejected) and outcome.error.code is ErrorCode.RATE_LIMITED:
        # Some providers say it only in the body.
        permit.pause(outcome.error.retry_after)
    if isinstance(outcome, Created):
        outcome = with_pending_warnings(call, outcome)
    try:
        settled = await _settle(recording, outcome, call.account.timing)
    except KeyConflict as conflict:
        log.error(
            "the record of duplication %s (%s) is lost, and another duplication has its key",
            call.intent.id,
            _in_words(outcome),
        )
        return KeyHeld(conflict.duplication)
    outcome_settled(
        settled,
        SettledBy.ATTEMPT,
        ledger.now(),
        http_status=http_status,
        health=call.account.health,
    )
    if settled.status is not DuplicationStatus.CREATED or not has_pending_steps(settled.warnings):
        return settled
    try:
        timeout = call.account.timing.completion_timeout
        return await complete_copy(ledger, call, permit, settled, timeout)
    except LedgerUnavailable as failure:
        # The record is true, and the reconciler continues from it.
        ledger_failed(ledger.health, failure)
        return settled


async def mark_never_sent(ledger: Ledger, intent: Intent) -> None:
    """Settle an intent that may have been recorded and was never sent.

    Otherwise its record would be IN_PROGRESS for ever.
    """
    for pause in _pauses():
        try:
            await ledger.mark_never_sent(intent, NEVER_SENT, ledger.now())
        except LedgerClosed:
            return
        except LedgerUnavailable:
            await asyncio.sleep(pause)
        else:
            return


async def _list_existing(ledger: Ledger, call: CopyCall, permit: Permit) -> tuple[str, ...] | None:
    """List the campaigns that match the copy already, if a search will need them.

    Return None if it will not need them, or if the provider did not list all of them. Raises
    `Refused`.
    """
    connector = call.account.connector
    if not isinstance(connector, ListsCampaigns) or connector.reports_creation_time:
        return None
    if not can_search(call.account.connector, call.intent):
        return None
    try:
        async with asyncio.timeout(LIST_SECONDS):
            signs = CopySigns(connector)
            listed = await search_copies(call, permit, ledger.now, signs)
    except (NoResponse, UnexpectedResponse, TimeoutError) as failure:
        search_failed(call.account.health, call.intent.id, failure)
        return None
    search_done(call.account.health)
    if not listed.is_complete:
        return None
    return tuple(campaign.id for campaign in listed.campaigns)


async def _send(
    recording: _Recording, call: CopyCall, permit: Permit, request: ProviderRequest
) -> tuple[Outcome, int | None]:
    """Return what is certain after the call, and the provider's status if there is one.

    Raises `Refused` if nothing was recorded and nothing was sent, and what `_Recording.begin`
    raises.
    """
    connector = call.account.connector
    try:
        response = await call.account.transport.send_once(request, permit, recording.begin)
        outcome = await run_copy_parser(
            response, connector.parse_response, call.copy_input, response
        )
    except NotSent as failure:
        error = not_reached(connector.title, failure)
        if recording.task is None:
            raise Refused(error) from failure
        # The deadline ended while the ledger was writing: the record has to be settled.
        return Rejected(error), None
    except NoResponse as failure:
        return Unknown(outcome_unknown(f"{connector.title} sent no response ({failure})")), None
    except (_Stopped, LedgerUnavailable):
        raise
    except Exception:
        # Without a record nothing was sent. A `Refused` then comes from the request for a token.
        if recording.task is None:
            raise
        log.exception("a bug in the gateway, duplication %s", recording.intent.id)
        return Unknown(outcome_unknown("The gateway could not parse the response")), None
    return outcome, response.status


async def _settle(recording: _Recording, outcome: Outcome, timing: Timing) -> Duplication:
    """Record the outcome, and wait for the ledger if it is unavailable. Raises `KeyConflict`."""
    ledger, intent = recording.ledger, recording.intent
    is_logged = False
    for pause in _pauses():
        now = ledger.now()
        try:
            return await ledger.settle(
                intent, outcome, now, _check_at(outcome, now, timing), recording.preexisting_ids
            )
        except LedgerClosed:
            # The next gateway reports it as UNKNOWN. This one has no callers left.
            raise asyncio.CancelledError from None
        except LedgerUnavailable as failure:
            ledger_failed(ledger.health, failure)
            if not is_logged:
                # With the copy's id: an operator needs it if the gateway ends before the ledger is
                # available.
                log.error(
                    "duplication %s (%s) is not recorded yet: %s",
                    intent.id,
                    _in_words(outcome),
                    failure,
                )
                is_logged = True
            await asyncio.sleep(pause)
    raise AssertionError("the pauses never end")


def _check_at(outcome: Outcome, now: datetime, timing: Timing) -> datetime | None:
    if isinstance(outcome, Accepted | Unknown):
        return now + timedelta(seconds=timing.first_check_after)
    is_pending = isinstance(outcome, Created) and has_pending_steps(outcome.warnings)
    return now + timedelta(seconds=timing.completion_due_after) if is_pending else None


def _pauses() -> "chain[float]":
    return chain([0.1, 0.5, 1], repeat(5))


def _in_words(outcome: Outcome) -> str:
    copy = f" as {outcome.campaign.id}" if isinstance(outcome, Created) else ""
    return f"{status_of(outcome)}{copy}"
